"""What a `Channel` is made of that processes share: a log in anonymous memory."""
