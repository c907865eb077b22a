"""The primitives of the backend in plain NumPy, for scripts: the same numbers to the last bit."""

HELPERS = {
    "logistic": '''
def sigmoid(x):
    """1 / (1 + exp(-x)), without overflow for any x."""
    lowest = 0.5 - math.log(np.finfo(x.dtype).max)
    return 1.0 / (np.exp(-np.maximum(x, lowest)) + 1.0)
''',
    "uniform_like": '''
def uniform(shape, dtype, key, site, step, rank=0):
    """Random numbers in [0, 1): the same ones for the same key, site, step and rank."""
    counter = np.array([0, site, step, rank], np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=counter)).random(shape, dtype)
''',
    "scatter_add": '''
def scatter_add(dy, index, rows):
    """Sums of the rows of `dy` that share an index."""
    flat = index.reshape(-1).astype(np.intp)
    out = np.zeros((rows, *dy.shape[index.ndim :]), dy.dtype)
    if flat.size:
        flat = np.where(flat < 0, flat + rows, flat)
        order = np.argsort(flat, kind="stable")
        ordered = flat[order]
        starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
        out[ordered[starts]] = np.add.reduceat(dy.reshape(flat.size, *out.shape[1:])[order], starts, axis=0)
    return out
''',
    "one_hot": '''
def one_hot(index, classes, dtype):
    """Rows of zeros with a single one."""
    out = np.zeros((index.size, classes), dtype)
    out[np.arange(index.size), index.reshape(-1)] = 1
    return out.reshape(*index.shape, classes)
''',
    "place": '''
def place(dy, key, shape):
    """Zeros of `shape` with `dy` added at `key`, repeated positions counted each time."""
    out = np.zeros(shape, dy.dtype)
    parts = key if isinstance(key, tuple) else (key,)
    if any(isinstance(part, np.ndarray | list) and np.asarray(part).dtype != bool for part in parts):
        np.add.at(out, key, dy)
    else:
        out[key] = dy
    return out
''',
    "erf": '''
def erf(x):
    """The error function (W. J. Cody, "Rational Chebyshev approximation for the error function", 1969)."""

    def polynomial(x, coefficients):
        y = x * coefficients[0] + coefficients[1]
        for c in coefficients[2:]:
            y = y * x + c
        return y

    small_p = [
        1.85777706184603153e-1, 3.16112374387056560e0, 1.13864154151050156e2, 3.77485237685302021e2,
        3.20937758913846947e3,
    ]
    small_q = [
        1.0, 2.36012909523441209e1, 2.44024637934444173e2, 1.28261652607737228e3,
        2.84423683343917062e3,
    ]
    large_p = [
        2.15311535474403846e-8, 5.64188496988670089e-1, 8.88314979438837594e0, 6.61191906371416295e1,
        2.98635138197400131e2, 8.81952221241769090e2, 1.71204761263407058e3, 2.05107837782607147e3,
        1.23033935479799725e3,
    ]
    large_q = [
        1.0, 1.57449261107098347e1, 1.17693950891312499e2, 5.37181101862009858e2,
        1.62138957456669019e3, 3.29079923573345963e3, 4.36261909014324716e3, 3.43936767414372164e3,
        1.23033935480374942e3,
    ]
    a = np.minimum(np.abs(x), 6.0)
    s = np.minimum(a, 0.5) * np.minimum(a, 0.5)
    small = x * (polynomial(s, small_p) / polynomial(s, small_q))
    large = np.sign(x) * (1.0 - np.exp(-a * a) * polynomial(a, large_p) / polynomial(a, large_q))
    return np.where(a <= 0.46875, small, large)
''',
}
