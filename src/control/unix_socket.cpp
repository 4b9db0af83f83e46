#include "control/unix_socket.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "base/system_error.h"

namespace doppel::control {
namespace {

struct Address {
  sockaddr_un value{};
  UniqueFd directory;  ///< keeps /proc/self/fd/N meaning the directory
};

Result<Address> make_address(const std::string& path) {
  Address address;
  address.value.sun_family = AF_UNIX;
  std::string reachable = path;
  if (reachable.size() >= sizeof address.value.sun_path) {
    const std::size_t slash = path.rfind('/');
    const std::string directory = path.substr(0, slash);
    address.directory = UniqueFd(::open(directory.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
    if (!address.directory.valid()) return system_error("cannot open " + directory);
    reachable = fmt::format("/proc/self/fd/{}/{}", address.directory.get(), path.substr(slash + 1));
  }
  if (reachable.size() >= sizeof address.value.sun_path) {
    return Error{fmt::format("{} is too long for a socket's path", path)};
  }
  std::memcpy(address.value.sun_path, reachable.c_str(), reachable.size() + 1);
  return address;
}

const sockaddr* generic(const Address& address) {
  return reinterpret_cast<const sockaddr*>(&address.value);
}

}  // namespace

Result<UniqueFd> listen_unix(const std::string& path) {
  Result<Address> address = make_address(path);
  if (!address) return address.error();
  UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd.valid()) return system_error("cannot create a socket");
  if (::bind(fd.get(), generic(*address), sizeof(sockaddr_un)) != 0 || ::chmod(path.c_str(), 0600) != 0 ||
      ::listen(fd.get(), 16) != 0) {
    return system_error("cannot listen on " + path);
  }
  return fd;
}

Result<UniqueFd> connect_unix(const std::string& path, int flags) {
  Result<Address> address = make_address(path);
  if (!address) return address.error();
  UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | flags, 0));
  if (!fd.valid()) return system_error("cannot create a socket");
  if (::connect(fd.get(), generic(*address), sizeof(sockaddr_un)) != 0)
    return system_error("cannot connect to " + path);
  return fd;
}

UniqueFd accept_unix(int listener) {
  return UniqueFd(::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
}

}  // namespace doppel::control
