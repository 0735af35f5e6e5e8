"""The way to the API server: transport, credentials, REST verbs, frames, and the typed client on top."""
