"""The configuration of the embedded PostgreSQL."""

#: All of it goes on the command line, which wins over the files: a start never edits the database folder.
OPTIONS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "port": "5432",  # only the socket's name
    "password_encryption": "scram-sha-256",
    "cluster_name": "pilothouse",
    "timezone": "UTC",
    # An accepted operation is a promise: it is on disk before it is answered.
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    # Small beside the Helm engine, and enough for an API, workers and an observer on one machine.
    "max_connections": "80",
    "shared_buffers": "64MB",
    "max_wal_size": "512MB",
    "jit": "off",
    "max_parallel_workers_per_gather": "0",
    "huge_pages": "off",  # in a container with a limit on them the server would die of SIGBUS
    "logging_collector": "on",
    "log_filename": "postgres-%u.log",  # the weekday: a week is kept
    "log_rotation_age": "1d",
    "log_rotation_size": "0",
    "log_truncate_on_rotation": "on",
    "log_timezone": "UTC",
    # Statements and details can hold what is sealed elsewhere.
    "log_min_error_statement": "panic",
    "log_error_verbosity": "terse",
}
