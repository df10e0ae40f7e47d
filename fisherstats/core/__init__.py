"""What every part rests on: errors, arrays, validation with all messages, the schema of results, references."""
