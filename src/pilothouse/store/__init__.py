"""PostgreSQL: tables, migrations, and one module of queries per noun. Nothing in here commits but ``Database``."""
