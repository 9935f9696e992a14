"""What the catalogue tells whoever listens."""

from django.dispatch import Signal

pictures_changed = Signal()
"""Somebody has given products other pictures, by hand or through the API; sent in the transaction that does so.

Not by imports: thousands of pictures are embedded when the import has ended, by whoever started it.
"""
