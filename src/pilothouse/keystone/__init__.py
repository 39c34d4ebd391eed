"""OpenStack Keystone: tokens validated by the server that issued them. Loaded only where one is set up."""
