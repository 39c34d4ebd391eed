"""PostgreSQL: tables, migrations, and one module of queries per noun. Only ``Database`` commits."""
