"""Research questions about Gen3R, asked through its public interfaces."""
