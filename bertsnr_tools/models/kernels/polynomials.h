/* Coefficients that the kernels share. */
#ifndef BERTSNR_POLYNOMIALS_H
#define BERTSNR_POLYNOMIALS_H

enum { GELU_TERMS = 8 };

/* GELU(x) = x Phi(x), Phi the normal distribution function. Phi(x) - 1/2 is odd: x P(x^2), here with P of degree 7,
 * highest power first. These coefficients give x (1/2 + x P(x^2)) the least maximal absolute error on [0, 4] (weighted
 * Remez exchange: nine alternating extremes of 3.5e-5 to 4.1e-5, unequal only by the rounding to fp32). Beyond 4,
 * 1/2 + x P(x^2) stays at its value at 4, 0.999958: the error is at most 4.2e-5 |x|.
 */
static const float GELU_POLYNOMIAL[GELU_TERMS] = {-1.3012951e-09f, 1.0419609e-07f, -3.6571341e-06f, 7.4855066e-05f,
                                                  -0.0010064906f,  0.0095053986f,  -0.065887846f,   0.39867339f};

#endif
