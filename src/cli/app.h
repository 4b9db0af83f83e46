#pragma once

namespace doppel::cli {

/// The whole program: parses the arguments and does what they say. The exit status.
int run_program(int argc, const char* const* argv);

}  // namespace doppel::cli
