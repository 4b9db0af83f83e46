#include "cli/message.h"

#include <fmt/format.h>

#include <cstdio>

namespace doppel::cli {

void complain(std::string_view message) {
  show(fmt::format("doppel: {}\n", message));
}

void show(std::string_view text) {
  std::fwrite(text.data(), 1, text.size(), stderr);
}

}  // namespace doppel::cli
