"""For tests of code built on the kernel: a clock that moves when told, and checks that a store keeps its promises."""
