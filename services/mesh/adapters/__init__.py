"""The only shared code that imports a client library, reads the clock or opens a socket."""
