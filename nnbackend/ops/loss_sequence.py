"""Connectionist temporal classification (CTC)."""
