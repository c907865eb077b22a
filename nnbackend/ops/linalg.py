"""Linear algebra: solving, inverses, determinants, Cholesky factors, norms."""
