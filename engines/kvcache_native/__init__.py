"""KV-cache engine: conversations that load their prefix and store what each turn adds."""
