module benchmarks/pion

go 1.19
