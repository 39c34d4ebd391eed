"""The two APIs: the vendor's dialect, and the native one."""
