// The test program. `agilequant_tests --help` lists doctest's options, e.g. --test-case="*softmax*".
#define DOCTEST_CONFIG_IMPLEMENT
#include <doctest/doctest.h>

#include <cstdlib>
#include <iostream>

#include "agilequant/dispatch/dispatch.hpp"

// AQ_ISA in the environment forces an instruction set. ctest runs the program so for each there is, and shows as skipped
// those that this processor lacks; a name that nobody knows is an error.
int main(int argc, char** argv) {
    const aq::kernel_table* kernels = nullptr;
    const aq::status chosen = aq::choose_kernels(kernels);
    if (chosen == aq::status::absent_isa) {
        std::cout << "skipped: AQ_ISA=" << std::getenv("AQ_ISA") << ": this processor or build lacks it" << std::endl;
        return 77;
    }
    if (chosen != aq::status::ok) {
        std::cerr << "AQ_ISA=" << std::getenv("AQ_ISA") << " names no instruction set" << std::endl;
        return 2;
    }
    return doctest::Context(argc, argv).run();
}
