"""Connections beneath ASGI: lines that streams may own, and the protocols that make them."""
