package signatures

// MaxBytes is how much text all sources of a rule set may have together. The largest public feeds have some 40 MB.
const MaxBytes = 64 << 20

// MaxRules is how many rules may be switched on. The largest public feeds have some 80,000, of which half are off; the engine takes
// 8 kB of memory and 0.3 ms of each load for one.
const MaxRules = 100_000

// maxRule is the longest rule in bytes that the engine reads; it takes the rest of a longer line for another rule.
const maxRule = 8191
