"""The application's database: collections, documents, edits, blocks with vectors, conversations, settings.

The database is the only truth. Block KV can be made again from it.
"""
