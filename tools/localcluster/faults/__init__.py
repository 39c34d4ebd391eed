"""A proxy that cuts, delays, freezes or refuses chosen requests: how tests reach the moments inside another program.

It stands between our processes and an API server, or between them and a PostgreSQL, in a process of its own; ``proxy``
is what a test talks to. No byte of what passes is changed but one: each Kubernetes request carries an ``Audit-ID`` of
the proxy's, so that a line of the API server's audit log can be traced to the process that sent the request.
"""
