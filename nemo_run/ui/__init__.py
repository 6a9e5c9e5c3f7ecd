"""A page to look at experiments: ``nemorun ui``.

::

    reading     documents for the pages, read through run/
    listing     all experiments in one line each, read again only where files changed
    logs        logs as files, from which any part can be read
    watching    one loop that tells open pages what changed
    guard       who may ask: hosts, tokens, headers
    actions     what the page can ask the command line to do
    server      addresses
    exporting   the same pages as files
    static/     what runs in the browser
"""
