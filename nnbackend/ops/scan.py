"""Running sums, products and maxima."""
