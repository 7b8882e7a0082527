"""The live page: a small web server on this machine alone, for one store.

    guard.py    who is answered: loopback, our own address, the holder of the token
    app.py      which address shows what
    showing.py  from a story to what a page shows: differences, quotes, text without controls
    server.py   the socket, the token, the browser
    templates/, static/  the pages: no build step, nothing from elsewhere

Enters: a store, a port. Leaves: pages, and labels in the store's inbox. Refuses to know: other hosts.
"""
