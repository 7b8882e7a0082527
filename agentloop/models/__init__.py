"""Models: one protocol, four clients, one layer of limits, one way through the journal.

`base` says what a model is; `direct`, `via_litellm`, `embedded` and `scripted` are the clients;
`limits` owns concurrency and retries; `channel` is a role's way to its model; `choose` turns a name
into a client; `prices` and `weights` are what they are called. Nothing here knows what is asked.
"""
