"""The audit log: what was asked and answered, so that nobody can change it unseen.

Knows no service: `events` says what is kept, `log` writes it, `verify` checks it.
"""
