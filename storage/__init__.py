"""What lasts: collections, documents, edits, blocks, conversations, settings, in a database. Knows no page.

The database is the truth. A collection's search index and block KV are made from it and can be made again.
"""
