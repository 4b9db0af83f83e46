#include "cli/escape.h"

#include <fmt/format.h>

#include <algorithm>

namespace doppel::cli {

std::string EscapeFilter::filter(std::string_view typed) {
  std::string for_guest;
  for (const char character : typed) {
    if (escaped_) {
      escaped_ = false;
      run(character, for_guest);
    } else if (character == kEscape) {
      escaped_ = true;
    } else {
      for_guest += character;
    }
  }
  return for_guest;
}

void EscapeFilter::run(char key, std::string& for_guest) {
  if (key == kEscape) {
    for_guest += kEscape;
    return;
  }
  const auto found = std::ranges::find(keys_, key, &EscapeKey::key);
  if (found != keys_.end()) {
    found->action();
  } else {
    show_(help());
  }
}

std::string EscapeFilter::help() const {
  std::string text = "\n";
  for (const EscapeKey& key : keys_) text += fmt::format("Ctrl-a {}       {}\n", key.key, key.help);
  text += "Ctrl-a h       show this help\n";
  text += "Ctrl-a Ctrl-a  send Ctrl-a to the guest\n";
  return text;
}

}  // namespace doppel::cli
