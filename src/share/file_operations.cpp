// What requests do to the files of the shared directory.
#include <dirent.h>
#include <fcntl.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>

#include "share/file_call.h"

namespace doppel::share {
namespace {

/// How long the guest may believe what it was told, seconds: others change the files too.
constexpr std::uint64_t kValid = 1;
constexpr std::size_t kMostHandles = 65536;
constexpr int kOpenFlags = O_ACCMODE | O_APPEND | O_TRUNC | O_SYNC | O_DSYNC;
/// A pipe or a device does not make us wait, nor is a link followed.
constexpr int kSafely = O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC | O_NOCTTY;
constexpr mode_t kModeBits = 07777;
/// Set-user-ID and set-group-ID would be the user's of the host.
constexpr mode_t kPermittedBits = 01777;

bool is_name(const std::string& name) {
  return !name.empty() && name.size() <= NAME_MAX && name != "." && name != ".." && name.find('/') == std::string::npos;
}

int result_of(int returned) {
  return returned == 0 ? 0 : errno;
}

timespec time_of(std::uint64_t seconds, std::uint32_t nanoseconds) {
  return {static_cast<time_t>(seconds), static_cast<long>(nanoseconds)};
}

bool same_file(const Node& node, const struct stat& status) {
  return node.device == status.st_dev && node.inode == status.st_ino && node.type == (status.st_mode & S_IFMT);
}

}  // namespace

// --- From nodes to files ---

Node* FileServer::directory_of(const Call& call) {
  Node* const node = nodes_.find(call.header.nodeid);
  return node != nullptr && node->type == S_IFDIR ? node : nullptr;
}

int FileServer::find_place(const Node& node, Place& place) {
  if (node.type == S_IFDIR) {
    place = {node.directory.get(), ""};
    return 0;
  }
  const Node* const parent = nodes_.find(node.parent);
  if (parent == nullptr || parent->type != S_IFDIR) return ESTALE;
  place = {parent->directory.get(), node.name.c_str()};
  return 0;
}

int FileServer::status_of(const Node& node, struct stat& status) {
  Place place;
  if (const int error = find_place(node, place); error != 0) return error;
  if (::fstatat(place.directory, place.name, &status, AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH) != 0) {
    return errno == ENOENT ? ESTALE : errno;
  }
  return same_file(node, status) ? 0 : ESTALE;
}

int FileServer::open_node(const Node& node, int flags, UniqueFd& fd) {
  if (node.type != S_IFREG && node.type != S_IFDIR) return node.type == S_IFLNK ? ELOOP : ENXIO;
  Place place;
  if (const int error = find_place(node, place); error != 0) return error;
  // What is there may be another file by now: nothing is cut off before that is known.
  fd = UniqueFd(::openat(place.directory, node.type == S_IFDIR ? "." : place.name, (flags & ~O_TRUNC) | kSafely));
  if (!fd.valid()) return errno == ENOENT ? ESTALE : errno;
  struct stat status {};
  if (::fstat(fd.get(), &status) != 0) return errno;
  if (!same_file(node, status)) return ESTALE;
  return (flags & O_TRUNC) != 0 ? result_of(::ftruncate(fd.get(), 0)) : 0;
}

void FileServer::fill(fuse_attr& attributes, const struct stat& status) const {
  attributes.ino = status.st_ino;
  attributes.size = static_cast<std::uint64_t>(status.st_size);
  attributes.blocks = static_cast<std::uint64_t>(status.st_blocks);
  attributes.atime = static_cast<std::uint64_t>(status.st_atim.tv_sec);
  attributes.mtime = static_cast<std::uint64_t>(status.st_mtim.tv_sec);
  attributes.ctime = static_cast<std::uint64_t>(status.st_ctim.tv_sec);
  attributes.atimensec = static_cast<std::uint32_t>(status.st_atim.tv_nsec);
  attributes.mtimensec = static_cast<std::uint32_t>(status.st_mtim.tv_nsec);
  attributes.ctimensec = static_cast<std::uint32_t>(status.st_ctim.tv_nsec);
  attributes.mode = status.st_mode;
  attributes.nlink = static_cast<std::uint32_t>(status.st_nlink);
  attributes.uid = status.st_uid == user_ ? 0 : status.st_uid;
  attributes.gid = status.st_gid == group_ ? 0 : status.st_gid;
  attributes.rdev = static_cast<std::uint32_t>(status.st_rdev);
  attributes.blksize = static_cast<std::uint32_t>(status.st_blksize);
}

int FileServer::enter(Node& parent, const std::string& name, fuse_entry_out& entry) {
  struct stat status {};
  if (::fstatat(parent.directory.get(), name.c_str(), &status, AT_SYMLINK_NOFOLLOW) != 0) return errno;
  UniqueFd directory;
  if (S_ISDIR(status.st_mode)) {
    directory = UniqueFd(::openat(parent.directory.get(), name.c_str(), O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    if (!directory.valid()) return errno;
    if (::fstat(directory.get(), &status) != 0) return errno;
  }
  const Node* const node = nodes_.look_up(parent, name, status, std::move(directory));
  if (node == nullptr) return ENFILE;
  entry.nodeid = node->id;
  entry.entry_valid = entry.attr_valid = kValid;
  fill(entry.attr, status);
  return 0;
}

int FileServer::reply_entry(const Call& call, Node& parent, const std::string& name) {
  fuse_entry_out entry{};
  const int error = enter(parent, name, entry);
  if (error == 0) call.reply(entry);
  return error;
}

// --- Names ---

int FileServer::look_up(const Call& call) {
  Node* const parent = directory_of(call);
  const std::string name = call.text(0);
  if (parent == nullptr) return ESTALE;
  if (!is_name(name)) return ENOENT;
  return reply_entry(call, *parent, name);
}

int FileServer::read_link(const Call& call) {
  const Node* const node = nodes_.find(call.header.nodeid);
  if (node == nullptr) return ESTALE;
  if (node->type != S_IFLNK) return EINVAL;
  Place place;
  if (const int error = find_place(*node, place); error != 0) return error;
  std::array<char, PATH_MAX> target{};
  const ssize_t length = ::readlinkat(place.directory, place.name, target.data(), target.size());
  if (length < 0) return errno;
  const auto bytes = std::as_bytes(std::span(target)).first(static_cast<std::size_t>(length));
  call.out.insert(call.out.end(), bytes.begin(), bytes.end());
  return 0;
}

int FileServer::make_link(const Call& call) {
  Node* const parent = directory_of(call);
  const Node* const node = nodes_.find(call.arguments<fuse_link_in>().oldnodeid);
  const std::string name = call.text(sizeof(fuse_link_in));
  if (parent == nullptr || node == nullptr) return ESTALE;
  if (!is_name(name)) return EINVAL;
  if (node->type == S_IFDIR) return EPERM;
  Place place;
  if (const int error = find_place(*node, place); error != 0) return error;
  if (::linkat(place.directory, place.name, parent->directory.get(), name.c_str(), 0) != 0) return errno;
  return reply_entry(call, *parent, name);
}

int FileServer::make_symbolic_link(const Call& call) {
  Node* const parent = directory_of(call);
  const std::string name = call.text(0);
  const std::string target = call.text(0, 1);
  if (parent == nullptr) return ESTALE;
  if (!is_name(name) || target.empty()) return EINVAL;
  if (::symlinkat(target.c_str(), parent->directory.get(), name.c_str()) != 0) return errno;
  return reply_entry(call, *parent, name);
}

int FileServer::make_node(const Call& call) {
  Node* const parent = directory_of(call);
  const auto in = call.arguments<fuse_mknod_in>();
  const std::string name = call.text(sizeof in);
  if (parent == nullptr) return ESTALE;
  if (!is_name(name)) return EINVAL;
  if ((in.mode & S_IFMT) != S_IFREG) return EPERM;
  const UniqueFd made(
      ::openat(parent->directory.get(), name.c_str(), O_WRONLY | O_CREAT | O_EXCL | kSafely, in.mode & kPermittedBits));
  if (!made.valid()) return errno;
  ::fchmod(made.get(), in.mode & kPermittedBits);
  return reply_entry(call, *parent, name);
}

int FileServer::make_directory(const Call& call) {
  Node* const parent = directory_of(call);
  const auto in = call.arguments<fuse_mkdir_in>();
  const std::string name = call.text(sizeof in);
  if (parent == nullptr) return ESTALE;
  if (!is_name(name)) return EINVAL;
  if (::mkdirat(parent->directory.get(), name.c_str(), in.mode & kPermittedBits) != 0) return errno;
  return reply_entry(call, *parent, name);
}

int FileServer::remove_file(const Call& call) {
  const Node* const parent = directory_of(call);
  const std::string name = call.text(0);
  if (parent == nullptr) return ESTALE;
  return is_name(name) ? result_of(::unlinkat(parent->directory.get(), name.c_str(), 0)) : EINVAL;
}

int FileServer::remove_directory(const Call& call) {
  const Node* const parent = directory_of(call);
  const std::string name = call.text(0);
  if (parent == nullptr) return ESTALE;
  return is_name(name) ? result_of(::unlinkat(parent->directory.get(), name.c_str(), AT_REMOVEDIR)) : EINVAL;
}

int FileServer::rename_old(const Call& call) {
  return rename(call, call.arguments<fuse_rename_in>().newdir, sizeof(fuse_rename_in), 0);
}

int FileServer::rename_new(const Call& call) {
  const auto in = call.arguments<fuse_rename2_in>();
  if ((in.flags & ~(RENAME_NOREPLACE | RENAME_EXCHANGE)) != 0) return EINVAL;
  return rename(call, in.newdir, sizeof in, in.flags);
}

int FileServer::rename(const Call& call, std::uint64_t new_parent, std::size_t names, std::uint32_t flags) {
  const Node* const from = directory_of(call);
  const Node* const to = nodes_.find(new_parent);
  const std::string name = call.text(names);
  const std::string new_name = call.text(names, 1);
  if (from == nullptr || to == nullptr || to->type != S_IFDIR) return ESTALE;
  if (!is_name(name) || !is_name(new_name)) return EINVAL;
  if (::renameat2(from->directory.get(), name.c_str(), to->directory.get(), new_name.c_str(), flags) != 0) return errno;
  if ((flags & RENAME_EXCHANGE) != 0) {
    nodes_.exchanged(*from, name, *to, new_name);
  } else {
    nodes_.moved(*from, name, *to, new_name);
  }
  return 0;
}

// --- Attributes ---

int FileServer::get_attributes(const Call& call) {
  const Node* const node = nodes_.find(call.header.nodeid);
  if (node == nullptr) return ESTALE;
  const auto in = call.arguments<fuse_getattr_in>();
  const Handle* handle = (in.getattr_flags & FUSE_GETATTR_FH) != 0 ? handle_of(in.fh) : nullptr;
  struct stat status {};
  int error = handle != nullptr ? result_of(::fstat(handle->fd.get(), &status)) : status_of(*node, status);
  // A file without a name that is still open somewhere.
  for (auto open = handles_.begin(); error == ESTALE && open != handles_.end(); ++open) {
    if (open->second.node == node->id) error = result_of(::fstat(open->second.fd.get(), &status));
  }
  if (error != 0) return error;
  fuse_attr_out out{};
  out.attr_valid = kValid;
  fill(out.attr, status);
  call.reply(out);
  return 0;
}

int FileServer::change_mode(const Node& node, const Handle* handle, mode_t mode) {
  mode &= kPermittedBits;
  if (handle != nullptr) return result_of(::fchmod(handle->fd.get(), mode));
  UniqueFd fd;
  int error = open_node(node, O_RDONLY, fd);
  if (error == EACCES && node.type == S_IFREG) error = open_node(node, O_WRONLY, fd);
  return error != 0 ? error : result_of(::fchmod(fd.get(), mode));
}

int FileServer::change_size(const Node& node, const Handle* handle, std::uint64_t size) {
  if (size > static_cast<std::uint64_t>(INT64_MAX)) return EFBIG;
  if (handle != nullptr) return result_of(::ftruncate(handle->fd.get(), static_cast<off_t>(size)));
  UniqueFd fd;
  if (const int error = open_node(node, O_WRONLY, fd); error != 0) return error;
  return result_of(::ftruncate(fd.get(), static_cast<off_t>(size)));
}

int FileServer::change_times(const Node& node, const Handle* handle, const fuse_setattr_in& in) {
  std::array<timespec, 2> times{timespec{0, UTIME_OMIT}, timespec{0, UTIME_OMIT}};
  if ((in.valid & FATTR_ATIME) != 0) times[0] = time_of(in.atime, in.atimensec);
  if ((in.valid & FATTR_MTIME) != 0) times[1] = time_of(in.mtime, in.mtimensec);
  if ((in.valid & FATTR_ATIME_NOW) != 0) times[0].tv_nsec = UTIME_NOW;
  if ((in.valid & FATTR_MTIME_NOW) != 0) times[1].tv_nsec = UTIME_NOW;
  if (handle != nullptr) return result_of(::futimens(handle->fd.get(), times.data()));
  Place place;
  if (const int error = find_place(node, place); error != 0) return error;
  const char* const name = node.type == S_IFDIR ? "." : place.name;
  return result_of(::utimensat(place.directory, name, times.data(), AT_SYMLINK_NOFOLLOW));
}

int FileServer::set_attributes(const Call& call) {
  const Node* const node = nodes_.find(call.header.nodeid);
  if (node == nullptr) return ESTALE;
  const auto in = call.arguments<fuse_setattr_in>();
  const Handle* handle = (in.valid & FATTR_FH) != 0 ? handle_of(in.fh) : nullptr;
  struct stat status {};
  int error = handle != nullptr ? result_of(::fstat(handle->fd.get(), &status)) : status_of(*node, status);
  if (error != 0) return error;
  fuse_attr now{};
  fill(now, status);
  // Nobody but the host's root gives files away.
  if ((in.valid & FATTR_UID) != 0 && in.uid != now.uid) return EPERM;
  if ((in.valid & FATTR_GID) != 0 && in.gid != now.gid) return EPERM;
  if ((in.valid & FATTR_MODE) != 0) error = change_mode(*node, handle, in.mode & kModeBits);
  if (error == 0 && (in.valid & FATTR_SIZE) != 0) error = change_size(*node, handle, in.size);
  if (error == 0 && (in.valid & (FATTR_ATIME | FATTR_MTIME | FATTR_ATIME_NOW | FATTR_MTIME_NOW)) != 0) {
    error = change_times(*node, handle, in);
  }
  if (error != 0) return error;
  error = handle != nullptr ? result_of(::fstat(handle->fd.get(), &status)) : status_of(*node, status);
  if (error != 0) return error;
  fuse_attr_out out{};
  out.attr_valid = kValid;
  fill(out.attr, status);
  call.reply(out);
  return 0;
}

int FileServer::status_of_file_system(const Call& call) {
  const Node* const root = nodes_.find(NodeTable::kRoot);
  struct statfs status {};
  if (::fstatfs(root->directory.get(), &status) != 0) return errno;
  fuse_statfs_out out{};
  out.st.blocks = status.f_blocks;
  out.st.bfree = status.f_bfree;
  out.st.bavail = status.f_bavail;
  out.st.files = status.f_files;
  out.st.ffree = status.f_ffree;
  out.st.bsize = static_cast<std::uint32_t>(status.f_bsize);
  out.st.namelen = NAME_MAX;
  out.st.frsize = static_cast<std::uint32_t>(status.f_frsize);
  call.reply(out);
  return 0;
}

// --- Contents ---

int FileServer::open_file(const Call& call) {
  const Node* const node = nodes_.find(call.header.nodeid);
  if (node == nullptr) return ESTALE;
  if (node->type == S_IFDIR) return EISDIR;
  if (handles_.size() >= kMostHandles) return EMFILE;
  const int flags = static_cast<int>(call.arguments<fuse_open_in>().flags) & kOpenFlags;
  if (read_only_ && ((flags & O_ACCMODE) != O_RDONLY || (flags & O_TRUNC) != 0)) return EROFS;
  UniqueFd fd;
  if (const int error = open_node(*node, flags, fd); error != 0) return error;
  fuse_open_out out{};
  out.fh = keep(std::move(fd), node->id);
  call.reply(out);
  return 0;
}

int FileServer::create_file(const Call& call) {
  Node* const parent = directory_of(call);
  const auto in = call.arguments<fuse_create_in>();
  const std::string name = call.text(sizeof in);
  if (parent == nullptr) return ESTALE;
  if (!is_name(name)) return EINVAL;
  if (handles_.size() >= kMostHandles) return EMFILE;
  const int wanted = static_cast<int>(in.flags);
  const mode_t mode = in.mode & kPermittedBits;
  UniqueFd fd(::openat(parent->directory.get(), name.c_str(),
                       (wanted & kOpenFlags & ~O_TRUNC) | O_CREAT | O_EXCL | kSafely, mode));
  const bool made = fd.valid();
  if (!made && (errno != EEXIST || (wanted & O_EXCL) != 0)) return errno;
  if (made) ::fchmod(fd.get(), mode);
  fuse_entry_out entry{};
  if (const int error = enter(*parent, name, entry); error != 0) return error;
  if (!made) {
    const Node* const node = nodes_.find(entry.nodeid);
    if (const int error = open_node(*node, wanted & kOpenFlags, fd); error != 0) {
      nodes_.forget(entry.nodeid, 1);
      return error;
    }
  }
  fuse_open_out out{};
  out.fh = keep(std::move(fd), entry.nodeid);
  call.reply(entry);
  call.reply(out);
  return 0;
}

int FileServer::read_file(const Call& call) {
  const auto in = call.arguments<fuse_read_in>();
  const Handle* const handle = handle_of(in.fh);
  if (handle == nullptr) return EBADF;
  if (in.offset > static_cast<std::uint64_t>(INT64_MAX)) return EINVAL;
  const std::size_t before = call.out.size();
  const std::size_t length = std::min<std::size_t>({in.size, call.room, kMostData});
  call.out.resize(before + length);
  const ssize_t got = ::pread(handle->fd.get(), &call.out[before], length, static_cast<off_t>(in.offset));
  if (got < 0) return errno;
  call.out.resize(before + static_cast<std::size_t>(got));
  return 0;
}

int FileServer::write_file(const Call& call) {
  const auto in = call.arguments<fuse_write_in>();
  const Handle* const handle = handle_of(in.fh);
  if (handle == nullptr) return EBADF;
  if (in.offset > static_cast<std::uint64_t>(INT64_MAX) || call.body.size() < sizeof in) return EINVAL;
  const auto data = call.body.subspan(sizeof in);
  const std::size_t length = std::min<std::size_t>(in.size, data.size());
  const ssize_t done = ::pwrite(handle->fd.get(), data.data(), length, static_cast<off_t>(in.offset));
  if (done < 0) return errno;
  fuse_write_out out{};
  out.size = static_cast<std::uint32_t>(done);
  call.reply(out);
  return 0;
}

/// There is nothing to do when a descriptor of many is closed: the guest need not tell.
int FileServer::flush_file(const Call&) {
  return ENOSYS;
}

int FileServer::sync_file(const Call& call) {
  const auto in = call.arguments<fuse_fsync_in>();
  const Handle* const handle = handle_of(in.fh);
  if (handle == nullptr) return EBADF;
  return result_of((in.fsync_flags & FUSE_FSYNC_FDATASYNC) != 0 ? ::fdatasync(handle->fd.get())
                                                                : ::fsync(handle->fd.get()));
}

int FileServer::allocate(const Call& call) {
  const auto in = call.arguments<fuse_fallocate_in>();
  const Handle* const handle = handle_of(in.fh);
  if (handle == nullptr) return EBADF;
  constexpr std::uint32_t kModes = FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE;
  if ((in.mode & ~kModes) != 0) return EOPNOTSUPP;
  return result_of(::fallocate(handle->fd.get(), static_cast<int>(in.mode), static_cast<off_t>(in.offset),
                               static_cast<off_t>(in.length)));
}

int FileServer::seek(const Call& call) {
  const auto in = call.arguments<fuse_lseek_in>();
  const Handle* const handle = handle_of(in.fh);
  if (handle == nullptr) return EBADF;
  if (in.whence != SEEK_DATA && in.whence != SEEK_HOLE) return EINVAL;
  const off_t found = ::lseek(handle->fd.get(), static_cast<off_t>(in.offset), static_cast<int>(in.whence));
  if (found < 0) return errno;
  fuse_lseek_out out{};
  out.offset = static_cast<std::uint64_t>(found);
  call.reply(out);
  return 0;
}

// --- Directories ---

int FileServer::open_directory(const Call& call) {
  const Node* const node = directory_of(call);
  if (node == nullptr) return ENOTDIR;
  if (handles_.size() >= kMostHandles) return EMFILE;
  UniqueFd fd;
  if (const int error = open_node(*node, O_RDONLY | O_DIRECTORY, fd); error != 0) return error;
  fuse_open_out out{};
  out.fh = keep(std::move(fd), node->id);
  call.reply(out);
  return 0;
}

int FileServer::read_directory(const Call& call) {
  return list(call, false);
}

int FileServer::read_directory_plus(const Call& call) {
  return list(call, true);
}

int FileServer::list(const Call& call, bool plus) {
  const auto in = call.arguments<fuse_read_in>();
  const Handle* const handle = handle_of(in.fh);
  Node* const node = directory_of(call);
  if (handle == nullptr || node == nullptr || handle->node != node->id) return EBADF;
  if (::lseek(handle->fd.get(), static_cast<off_t>(in.offset), SEEK_SET) < 0) return errno;
  constexpr std::size_t kAtOnce = 32768;
  alignas(dirent64) std::array<char, kAtOnce> buffer;  // NOLINT(cppcoreguidelines-pro-type-member-init)
  const std::size_t end = call.out.size() + std::min<std::size_t>(in.size, call.room);
  for (bool is_full = false; !is_full;) {
    const ssize_t got = ::syscall(SYS_getdents64, handle->fd.get(), buffer.data(), buffer.size());
    if (got < 0) return errno;
    if (got == 0) return 0;
    for (std::size_t at = 0; at < static_cast<std::size_t>(got) && !is_full;) {
      const auto* const entry = reinterpret_cast<const dirent64*>(&buffer[at]);
      at += entry->d_reclen;
      const std::string name = entry->d_name;
      const std::size_t length = (plus ? sizeof(fuse_direntplus) : sizeof(fuse_dirent)) + name.size();
      const std::size_t padded = FUSE_DIRENT_ALIGN(length);
      is_full = call.out.size() + padded > end;
      if (is_full) break;
      if (plus) {
        fuse_entry_out known{};
        // One that has gone meanwhile has no number, and the guest asks itself.
        if (is_name(name)) static_cast<void>(enter(*node, name, known));
        call.reply(known);
      }
      fuse_dirent out{};
      out.ino = entry->d_ino;
      out.off = static_cast<std::uint64_t>(entry->d_off);
      out.namelen = static_cast<std::uint32_t>(name.size());
      out.type = entry->d_type;
      const auto bytes = std::as_bytes(std::span{&out, 1}).first(FUSE_NAME_OFFSET);
      call.out.insert(call.out.end(), bytes.begin(), bytes.end());
      const auto text = std::as_bytes(std::span{name});
      call.out.insert(call.out.end(), text.begin(), text.end());
      call.out.resize(call.out.size() + padded - length);
    }
  }
  return 0;
}

}  // namespace doppel::share
