// Random numbers by counter, for every kernel that draws any.
#pragma once

typedef unsigned int word;
typedef unsigned long long seed_t;

// The last word of the counter: one seed draws different numbers for each purpose.
enum Stream { QUANTUM = 0, READOUT = 1, TRANSPORT = 2 };

// Philox 4x32-10: the same numbers whatever the order of the threads (Salmon et al., SC 2011).
__device__ __forceinline__ void philox(word (&counter)[4], seed_t seed) {
    word key0 = (word)seed, key1 = (word)(seed >> 32);
    for (int round = 0; round < 10; ++round) {
        const word high0 = __umulhi(0xD2511F53u, counter[0]), low0 = 0xD2511F53u * counter[0];
        const word high1 = __umulhi(0xCD9E8D57u, counter[2]), low1 = 0xCD9E8D57u * counter[2];
        counter[0] = high1 ^ counter[1] ^ key0;
        counter[2] = high0 ^ counter[3] ^ key1;
        counter[1] = low1;
        counter[3] = low0;
        key0 += 0x9E3779B9u;
        key1 += 0xBB67AE85u;
    }
}

// A number strictly between 0 and 1.
__device__ __forceinline__ float uniform(word bits) { return ((float)(bits >> 9) + 0.5f) * (1.0f / 8388608.0f); }
