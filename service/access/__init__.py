"""Who may ask what: API keys, scopes, rates, TLS and what every answer's headers say."""
