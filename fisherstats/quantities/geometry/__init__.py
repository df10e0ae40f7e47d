"""The relative information of subsystems, and statistical curvature."""
