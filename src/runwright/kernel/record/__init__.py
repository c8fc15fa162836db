"""The record: keeps, never acts."""
