#pragma once

#include <string_view>

namespace doppel::cli {

/// "doppel: MESSAGE" on standard error, in one line.
void complain(std::string_view message);
/// Text for the user that is not the program's result, on standard error as it is.
void show(std::string_view text);

}  // namespace doppel::cli
