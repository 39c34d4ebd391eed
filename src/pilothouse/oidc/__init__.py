"""OpenID Connect: what providers say of themselves and of people, verified. Loaded only where providers are set up."""
