"""Who may call: users, keys, tokens, projects."""
