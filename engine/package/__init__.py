"""The tree that is handed in: made of sealed archives alone, and compared with them again."""
