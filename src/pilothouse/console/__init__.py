"""The console: pages for people, with the rights of the person, over the same services as the APIs."""
