#include "cli/option_list.h"

namespace doppel::cli {

OptionList OptionList::parse(std::string_view text) {
  std::vector<std::string> parts(1);
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != ',') {
      parts.back() += text[i];
    } else if (i + 1 < text.size() && text[i + 1] == ',') {
      parts.back() += text[i++];
    } else {
      parts.emplace_back();
    }
  }
  OptionList list;
  list.first = parts.front();
  for (std::size_t i = 1; i < parts.size(); ++i) {
    const std::size_t equals = parts[i].find('=');
    if (equals == std::string::npos) {
      list.rest.emplace_back(parts[i], std::string());
    } else {
      list.rest.emplace_back(parts[i].substr(0, equals), parts[i].substr(equals + 1));
    }
  }
  return list;
}

std::string OptionList::escape(std::string_view text) {
  std::string escaped;
  for (const char c : text) escaped += c == ',' ? std::string(",,") : std::string(1, c);
  return escaped;
}

}  // namespace doppel::cli
