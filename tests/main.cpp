// The test program. `agilequant_tests --help` lists doctest's options, e.g. --test-case="*softmax*".
#define DOCTEST_CONFIG_IMPLEMENT_WITH_MAIN
#include <doctest/doctest.h>
