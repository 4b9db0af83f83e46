#include "base/system_error.h"

#include <cerrno>
#include <system_error>

namespace doppel {

Error system_error(const std::string& what, int error_number) {
  const int number = error_number != 0 ? error_number : errno;
  return Error{what + ": " + std::generic_category().message(number)};
}

}  // namespace doppel
