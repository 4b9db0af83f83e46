#pragma once

#include <cstddef>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace doppel::cli {

/// What a key after Ctrl-a does. Keys of the usual kind: x, h and Ctrl-a are those of QEMU's console.
struct EscapeKey {
  char key;
  std::string_view help;
  std::function<void()> action;
};

/// Finds Ctrl-a sequences in what the user types.
class EscapeFilter {
 public:
  static constexpr char kEscape = 'A' - '@';

  /// h, ? and Ctrl-a are the filter's own; `show` prints the help.
  EscapeFilter(std::vector<EscapeKey> keys, std::function<void(const std::string&)> show)
      : keys_(std::move(keys)), show_(std::move(show)) {}

  /// Runs the actions and returns what is for the guest.
  std::string filter(std::string_view typed);
  std::string help() const;

 private:
  void run(char key, std::string& for_guest);

  std::vector<EscapeKey> keys_;
  std::function<void(const std::string&)> show_;
  bool escaped_ = false;
};

}  // namespace doppel::cli
