"""The loops, compiled by numba: each over items or rows start..stop, with no shared writes.

Backward loops run concept by concept over the (item, position) pairs that selected it, so threads
need no atomics and sums have one order. Four rows are taken at once: that many reads are under
way, and an accumulator is loaded and stored once for all of them.
"""

from __future__ import annotations

import numpy as np

from training.kernels.pool import compiled

ZERO = np.float32(0)
LINEAR_FROM = np.float32(20)  # softplus is the identity above, as torch has it
AT_ONCE = 4  # rows: as many streams of memory reads


@compiled
def sort_pairs(indices_P, num_concepts):
    """Counting sort: for each concept, the positions that hold it, in ascending order."""
    starts_C = np.zeros(num_concepts + 1, np.int64)
    for c in indices_P:
        starts_C[c + 1] += 1
    for c in range(num_concepts):
        starts_C[c + 1] += starts_C[c]
    at_C = starts_C[:-1].copy()
    pairs_P = np.empty(len(indices_P), np.int64)
    for p in range(len(indices_P)):
        c = indices_P[p]
        pairs_P[at_C[c]] = p
        at_C[c] += 1
    return starts_C, pairs_P


@compiled
def largest(start, stop, scores_NC, indices_NK):
    """The K largest of each row, in no particular order; the earlier of equals.

    Of 4 K blocks' maxima the K-th largest bounds the row's K-th largest from below, and few
    entries reach it.
    """
    num_concepts, k = scores_NC.shape[1], indices_NK.shape[1]
    width = max(1, num_concepts // (4 * k))
    maxima = np.empty((num_concepts + width - 1) // width, np.float32)
    reach_I = np.empty(num_concepts, np.int64)
    for n in range(start, stop):
        row_C = scores_NC[n]
        for b in range(len(maxima)):
            best = row_C[b * width]
            for c in range(b * width, min((b + 1) * width, num_concepts)):
                if row_C[c] > best:
                    best = row_C[c]
            maxima[b] = best
        bound = np.partition(maxima, len(maxima) - k)[len(maxima) - k]
        count = 0
        for c in range(num_concepts):
            reach_I[count] = c
            count += row_C[c] >= bound
        if count < k:  # NaN: any indices do, the loss is NaN too
            for j in range(k):
                indices_NK[n, j] = j
            continue
        reached = np.empty(count, np.float32)
        for i in range(count):
            reached[i] = row_C[reach_I[i]]
        last = np.partition(reached, count - k)[count - k]
        above = 0
        for i in range(count):
            above += reached[i] > last
        ties, j = k - above, 0
        for i in range(count):
            if reached[i] > last or (reached[i] == last and ties > 0):
                ties -= reached[i] == last
                indices_NK[n, j] = reach_I[i]
                j += 1


@compiled
def values_forward(start, stop, z_ND, pre_bias_D, encoder_CD, bias_C, indices_NK, values_NK):
    """values[n, j] = (z[n] - pre_bias) · encoder[c] + bias[c] with c = indices[n, j]."""
    width, k = z_ND.shape[1], indices_NK.shape[1]
    centred_D = np.empty(width, np.float32)
    for n in range(start, stop):
        z_D = z_ND[n]
        for d in range(width):
            centred_D[d] = z_D[d] - pre_bias_D[d]
        for first in range(0, k, AT_ONCE):
            c0 = indices_NK[n, first]
            c1 = indices_NK[n, min(first + 1, k - 1)]
            c2 = indices_NK[n, min(first + 2, k - 1)]
            c3 = indices_NK[n, min(first + 3, k - 1)]
            r0_D, r1_D, r2_D, r3_D = encoder_CD[c0], encoder_CD[c1], encoder_CD[c2], encoder_CD[c3]
            t0, t1, t2, t3 = ZERO, ZERO, ZERO, ZERO
            for d in range(width):
                t0 += centred_D[d] * r0_D[d]
                t1 += centred_D[d] * r1_D[d]
                t2 += centred_D[d] * r2_D[d]
                t3 += centred_D[d] * r3_D[d]
            values_NK[n, first] = t0 + bias_C[c0]  # past the end the last one is written again
            values_NK[n, min(first + 1, k - 1)] = t1 + bias_C[c1]
            values_NK[n, min(first + 2, k - 1)] = t2 + bias_C[c2]
            values_NK[n, min(first + 3, k - 1)] = t3 + bias_C[c3]


@compiled
def corrected(
    start, stop, x_NK, indices_NK, dictionary_CD, bias_D, z_ND, times, rate, softness
):  # fmt: skip
    """x ← x - rate · dictionary[indices] · residual, `times` times, in place.

    residual = Σ softness · softplus(x / softness) · dictionary[indices] + bias - z. An item's rows
    are read from memory once and from the cache afterwards.
    """
    k, width = indices_NK.shape[1], z_ND.shape[1]
    residual_D, code_K = np.empty(width, np.float32), np.zeros(k + AT_ONCE, np.float32)
    for n in range(start, stop):
        z_D, index_K, x_K = z_ND[n], indices_NK[n], x_NK[n]
        for _ in range(times):
            for j in range(k):
                scaled = x_K[j] / softness
                soft = np.log1p(np.exp(min(scaled, LINEAR_FROM)))
                code_K[j] = softness * (scaled if scaled > LINEAR_FROM else soft)
            for d in range(width):
                residual_D[d] = bias_D[d] - z_D[d]
            for first in range(0, k, AT_ONCE):
                r0_D = dictionary_CD[index_K[first]]
                r1_D = dictionary_CD[index_K[min(first + 1, k - 1)]]
                r2_D = dictionary_CD[index_K[min(first + 2, k - 1)]]
                r3_D = dictionary_CD[index_K[min(first + 3, k - 1)]]
                v0, v1, v2, v3 = (
                    code_K[first], code_K[first + 1], code_K[first + 2], code_K[first + 3]
                )  # fmt: skip
                for d in range(width):
                    residual_D[d] += v0 * r0_D[d] + v1 * r1_D[d] + v2 * r2_D[d] + v3 * r3_D[d]
            for j in range(k):
                row_D, dot = dictionary_CD[index_K[j]], ZERO
                for d in range(width):
                    dot += residual_D[d] * row_D[d]
                x_K[j] -= rate * dot


@compiled
def values_backward(
    start, stop, z_ND, pre_bias_D, grad_P, k, starts_C, pairs_P, d_encoder_CD, d_bias_C
):
    """d_encoder[c] = Σ grad · (z - pre_bias) and d_bias[c] = Σ grad over the pairs of c."""
    width = z_ND.shape[1]
    most = AT_ONCE
    for c in range(start, stop):
        most = max(most, starts_C[c + 1] - starts_C[c] + AT_ONCE)
    item_T, grad_T = np.empty(most, np.int64), np.empty(most, np.float32)
    for c in range(start, stop):
        row_D = d_encoder_CD[c]
        total, terms = ZERO, 0
        for i in range(starts_C[c], starts_C[c + 1]):
            grad = grad_P[pairs_P[i]]
            total += grad
            item_T[terms], grad_T[terms] = pairs_P[i] // k, grad
            terms += grad != ZERO
        d_bias_C[c] = total
        for d in range(width):
            row_D[d] = -total * pre_bias_D[d]
        for t in range(terms, terms + AT_ONCE - 1):
            item_T[t], grad_T[t] = item_T[0], ZERO
        for t in range(0, terms, AT_ONCE):
            g0, g1, g2, g3 = grad_T[t], grad_T[t + 1], grad_T[t + 2], grad_T[t + 3]
            x0_D, x1_D = z_ND[item_T[t]], z_ND[item_T[t + 1]]
            x2_D, x3_D = z_ND[item_T[t + 2]], z_ND[item_T[t + 3]]
            for d in range(width):
                row_D[d] += g0 * x0_D[d] + g1 * x1_D[d] + g2 * x2_D[d] + g3 * x3_D[d]


@compiled
def reconstruct_forward(
    start, stop, values_USNK, indices_UNK, dictionary_CD, bias_D, z_ND, residual_USND, error_USN
):
    """residual = values · dictionary[indices] + bias - z, error = ‖residual‖²; items (u, n)."""
    sources, num_items, k = values_USNK.shape[1:]
    width = z_ND.shape[1]
    for item in range(start, stop):
        u, n = item // num_items, item % num_items
        z_D, index_K = z_ND[n], indices_UNK[u, n]
        for s in range(sources):
            row_D = residual_USND[u, s, n]
            for d in range(width):
                row_D[d] = bias_D[d] - z_D[d]
        for first in range(0, k, AT_ONCE):
            j1, j2, j3 = min(first + 1, k - 1), min(first + 2, k - 1), min(first + 3, k - 1)
            r0_D, r1_D = dictionary_CD[index_K[first]], dictionary_CD[index_K[j1]]
            r2_D, r3_D = dictionary_CD[index_K[j2]], dictionary_CD[index_K[j3]]
            for s in range(sources):
                row_D, value_K = residual_USND[u, s, n], values_USNK[u, s, n]
                v0 = value_K[first]
                v1 = value_K[j1] if first + 1 < k else ZERO
                v2 = value_K[j2] if first + 2 < k else ZERO
                v3 = value_K[j3] if first + 3 < k else ZERO
                for d in range(width):
                    row_D[d] += v0 * r0_D[d] + v1 * r1_D[d] + v2 * r2_D[d] + v3 * r3_D[d]
        for s in range(sources):
            row_D, total = residual_USND[u, s, n], ZERO
            for d in range(width):
                total += row_D[d] * row_D[d]
            error_USN[u, s, n] = total


@compiled
def reconstruct_backward(
    start, stop, values_P, twice_M, residual_MD, dictionary_CD, starts_C, pairs_P,
    d_dictionary_CD, d_values_P, sources, items, k,
):  # fmt: skip
    """With g = 2 · d_error: d_dictionary[c] = Σ g v residual, d_values = g residual · dictionary.

    Everything is flat: row m = (u · S + s) · N + n, value m · K + j. Values of 0 are left out.
    """
    width = dictionary_CD.shape[1]
    most = AT_ONCE
    for c in range(start, stop):
        most = max(most, (starts_C[c + 1] - starts_C[c]) * sources + AT_ONCE)
    at_T, row_T = np.empty(most, np.int64), np.empty(most, np.int64)
    twice_T, weight_T = np.empty(most, np.float32), np.empty(most, np.float32)
    for c in range(start, stop):
        atom_D, row_D = dictionary_CD[c], d_dictionary_CD[c]
        terms = 0
        for i in range(starts_C[c], starts_C[c + 1]):
            support, j = pairs_P[i] // k, pairs_P[i] % k
            m = support // items * sources * items + support % items
            for _ in range(sources):
                weight = twice_M[m] * values_P[m * k + j]
                at_T[terms], row_T[terms] = m * k + j, m
                twice_T[terms], weight_T[terms] = twice_M[m], weight
                d_values_P[m * k + j] = ZERO
                terms += weight != ZERO
                m += items
        for t in range(terms, terms + AT_ONCE - 1):
            at_T[t], row_T[t], weight_T[t] = at_T[0], row_T[0], ZERO
        for d in range(width):
            row_D[d] = ZERO
        for t in range(0, terms, AT_ONCE):
            x0_D, x1_D = residual_MD[row_T[t]], residual_MD[row_T[t + 1]]
            x2_D, x3_D = residual_MD[row_T[t + 2]], residual_MD[row_T[t + 3]]
            w0, w1, w2, w3 = weight_T[t], weight_T[t + 1], weight_T[t + 2], weight_T[t + 3]
            t0, t1, t2, t3 = ZERO, ZERO, ZERO, ZERO
            for d in range(width):
                row_D[d] += w0 * x0_D[d] + w1 * x1_D[d] + w2 * x2_D[d] + w3 * x3_D[d]
                t0 += atom_D[d] * x0_D[d]
                t1 += atom_D[d] * x1_D[d]
                t2 += atom_D[d] * x2_D[d]
                t3 += atom_D[d] * x3_D[d]
            dots = (t0, t1, t2, t3)
            for i in range(min(AT_ONCE, terms - t)):
                d_values_P[at_T[t + i]] = twice_T[t + i] * dots[i]


@compiled
def projected(start, stop, rows_CD, grad_CD, dots_C, squares_C, on_sphere, normalise):
    """Squared norm of each row's gradient; on the sphere, of its tangential part.

    `dots` is what the tangential part takes away: grad - dot · row.
    """
    width = rows_CD.shape[1]
    for c in range(start, stop):
        row_D, grad_D = rows_CD[c], grad_CD[c]
        if normalise:
            square = ZERO
            for d in range(width):
                square += row_D[d] * row_D[d]
            scale = np.float32(1) / max(np.sqrt(square), np.float32(1e-12))
            for d in range(width):
                row_D[d] *= scale
        dot, square = ZERO, ZERO
        if on_sphere:
            for d in range(width):
                dot += grad_D[d] * row_D[d]
            for d in range(width):
                tangent = grad_D[d] - dot * row_D[d]
                square += tangent * tangent
        else:  # the row need not be read
            for d in range(width):
                square += grad_D[d] * grad_D[d]
        dots_C[c] = dot
        squares_C[c] = square


@compiled
def adam(
    start, stop, rows_CD, grad_CD, mean_CD, square_CD, dots_C, clip, step_size, root_2, eps,
    beta_1, rest_1, beta_2, rest_2, normalise,
):  # fmt: skip
    """torch.optim.Adam's update of each row by clip · (grad - dot · row), then to unit norm.

    `step_size` is lr / (1 - beta_1^t), `root_2` is (1 - beta_2^t)^-½, `rest` is 1 - beta.
    """
    width = rows_CD.shape[1]
    for c in range(start, stop):
        row_D, grad_D, mean_D, square_D = rows_CD[c], grad_CD[c], mean_CD[c], square_CD[c]
        dot, norm = dots_C[c], ZERO
        for d in range(width):
            grad = clip * (grad_D[d] - dot * row_D[d])
            mean = beta_1 * mean_D[d] + rest_1 * grad
            square = beta_2 * square_D[d] + rest_2 * grad * grad
            mean_D[d], square_D[d] = mean, square
            entry = row_D[d] - step_size * mean / (np.sqrt(square) * root_2 + eps)
            row_D[d] = entry
            norm += entry * entry
        if normalise:
            scale = np.float32(1) / max(np.sqrt(norm), np.float32(1e-12))
            for d in range(width):
                row_D[d] *= scale
