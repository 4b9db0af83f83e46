// The protocol: requests, replies and what is negotiated. file_operations.cpp has what they do to files.
#include "share/file_server.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include "share/file_call.h"

namespace doppel::share {
namespace {

constexpr std::uint32_t kOldestMinor = 27;  ///< Linux 4.20
constexpr std::uint32_t kOurMinor = 31;
constexpr std::uint32_t kFlags = FUSE_ASYNC_READ | FUSE_BIG_WRITES | FUSE_ATOMIC_O_TRUNC | FUSE_AUTO_INVAL_DATA |
                                 FUSE_DO_READDIRPLUS | FUSE_READDIRPLUS_AUTO | FUSE_ASYNC_DIO | FUSE_PARALLEL_DIROPS |
                                 FUSE_MAX_PAGES;
constexpr std::uint32_t kPage = 4096;

}  // namespace

FileServer::FileServer(Config config)
    : nodes_(std::move(config.directory)), read_only_(config.read_only), user_(::geteuid()), group_(::getegid()) {}

const FileServer::Operation* FileServer::find_operation(std::uint32_t opcode) {
  using S = FileServer;
  static constexpr auto kOperations = std::to_array<Operation>({
      {FUSE_INIT, &S::init, false},
      {FUSE_DESTROY, &S::destroy, false},
      {FUSE_LOOKUP, &S::look_up, false},
      {FUSE_GETATTR, &S::get_attributes, false},
      {FUSE_SETATTR, &S::set_attributes, true},
      {FUSE_READLINK, &S::read_link, false},
      {FUSE_LINK, &S::make_link, true},
      {FUSE_SYMLINK, &S::make_symbolic_link, true},
      {FUSE_MKNOD, &S::make_node, true},
      {FUSE_MKDIR, &S::make_directory, true},
      {FUSE_UNLINK, &S::remove_file, true},
      {FUSE_RMDIR, &S::remove_directory, true},
      {FUSE_RENAME, &S::rename_old, true},
      {FUSE_RENAME2, &S::rename_new, true},
      {FUSE_OPEN, &S::open_file, false},
      {FUSE_CREATE, &S::create_file, true},
      {FUSE_READ, &S::read_file, false},
      {FUSE_WRITE, &S::write_file, true},
      {FUSE_FLUSH, &S::flush_file, false},
      {FUSE_FSYNC, &S::sync_file, false},
      {FUSE_FSYNCDIR, &S::sync_file, false},
      {FUSE_FALLOCATE, &S::allocate, true},
      {FUSE_LSEEK, &S::seek, false},
      {FUSE_RELEASE, &S::release, false},
      {FUSE_RELEASEDIR, &S::release, false},
      {FUSE_OPENDIR, &S::open_directory, false},
      {FUSE_READDIR, &S::read_directory, false},
      {FUSE_READDIRPLUS, &S::read_directory_plus, false},
      {FUSE_STATFS, &S::status_of_file_system, false},
  });
  const auto* const found = std::ranges::find(kOperations, opcode, &Operation::opcode);
  return found == kOperations.end() ? nullptr : found;
}

void FileServer::handle(std::span<const std::byte> request, std::size_t room, std::vector<std::byte>& reply) {
  reply.clear();
  fuse_in_header header{};
  if (request.size() < sizeof header) return;
  std::memcpy(&header, request.data(), sizeof header);
  const auto body = request.subspan(sizeof header);
  // These have no reply.
  if (header.opcode == FUSE_FORGET) {
    fuse_forget_in in{};
    if (body.size() >= sizeof in) {
      std::memcpy(&in, body.data(), sizeof in);
      nodes_.forget(header.nodeid, in.nlookup);
    }
    return;
  }
  if (header.opcode == FUSE_BATCH_FORGET) {
    for (std::size_t at = sizeof(fuse_batch_forget_in); at + sizeof(fuse_forget_one) <= body.size();
         at += sizeof(fuse_forget_one)) {
      fuse_forget_one one{};
      std::memcpy(&one, &body[at], sizeof one);
      nodes_.forget(one.nodeid, one.nlookup);
    }
    return;
  }
  if (header.opcode == FUSE_INTERRUPT || room < sizeof(fuse_out_header)) return;

  fuse_out_header out{};
  reply.resize(sizeof out);
  const Operation* const operation = find_operation(header.opcode);
  int error = ENOSYS;
  if (operation != nullptr) {
    const Call call{header, body, std::min(room, kMostBytes) - sizeof out, reply};
    error = operation->writes && read_only_ ? EROFS : (this->*operation->function)(call);
  }
  if (error != 0) reply.resize(sizeof out);
  // The guest gave less room than its own request's reply takes.
  if (reply.size() > room) {
    reply.resize(sizeof out);
    error = EINVAL;
  }
  out.len = static_cast<std::uint32_t>(reply.size());
  out.error = -error;
  out.unique = header.unique;
  std::memcpy(reply.data(), &out, sizeof out);
}

void FileServer::restart(const Numbers& numbers) {
  handles_.clear();
  nodes_.clear(numbers.node);
  next_handle_ = numbers.handle;
}

int FileServer::init(const Call& call) {
  const auto in = call.arguments<fuse_init_in>();
  fuse_init_out out{};
  out.major = FUSE_KERNEL_VERSION;
  out.minor = kOurMinor;
  if (in.major < FUSE_KERNEL_VERSION || (in.major == FUSE_KERNEL_VERSION && in.minor < kOldestMinor)) return EPROTO;
  if (in.major == FUSE_KERNEL_VERSION) {
    reset();
    out.max_readahead = in.max_readahead;
    out.flags = in.flags & kFlags;
    out.max_background = 64;
    out.congestion_threshold = 48;
    out.max_write = kMostData;
    out.time_gran = 1;
    out.max_pages = kMostData / kPage;
  }
  call.reply(out);
  return 0;
}

int FileServer::destroy(const Call&) {
  reset();
  return 0;
}

std::uint64_t FileServer::keep(UniqueFd fd, std::uint64_t node) {
  const std::uint64_t number = next_handle_++;
  handles_[number] = {std::move(fd), node};
  return number;
}

FileServer::Handle* FileServer::handle_of(std::uint64_t number) {
  const auto found = handles_.find(number);
  return found == handles_.end() ? nullptr : &found->second;
}

int FileServer::release(const Call& call) {
  return handles_.erase(call.arguments<fuse_release_in>().fh) == 1 ? 0 : EBADF;
}

}  // namespace doppel::share
