//! Listener, authentication, protocol, HTTP, command line.
