#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace doppel::cli {

/// "FIRST,KEY=VALUE,FLAG": how options with options of their own are written. A comma inside a value is doubled.
struct OptionList {
  std::string first;
  std::vector<std::pair<std::string, std::string>> rest;  ///< a flag's value is empty

  static OptionList parse(std::string_view text);
  /// `text` as a part of such a list.
  static std::string escape(std::string_view text);
};

}  // namespace doppel::cli
