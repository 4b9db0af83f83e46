#include "share/file_server.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <fstream>

#include "base/temporary_directory.h"
#include "share/requests.h"

namespace doppel::share {
namespace {

namespace fs = std::filesystem;
using test::FuseReply;
using test::FuseRequest;

constexpr std::uint64_t kRoot = FUSE_ROOT_ID;
constexpr std::size_t kRoom = FileServer::kMostBytes;

class Share : public testing::Test {
 protected:
  Share() {
    fs::create_directories(shared);
    std::ofstream(directory.path() + "/secret") << "secret";
    server = make();
  }
  UniqueFd open_shared() const { return UniqueFd(::open(shared.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC)); }
  std::unique_ptr<FileServer> make(bool read_only = false) {
    auto made = std::make_unique<FileServer>(FileServer::Config{open_shared(), read_only});
    fuse_init_in in{};
    in.major = FUSE_KERNEL_VERSION;
    in.minor = 36;
    EXPECT_EQ(ask(*made, FuseRequest(FUSE_INIT, 0).with(in)).error, 0);
    return made;
  }
  FuseReply ask(FileServer& to, const FuseRequest& request, std::size_t room = kRoom) {
    std::vector<std::byte> reply;
    to.handle(request.bytes, room, reply);
    fuse_out_header header{};
    EXPECT_GE(reply.size(), sizeof header);
    EXPECT_LE(reply.size(), room);
    if (reply.size() < sizeof header) return {EIO, {}};
    std::memcpy(&header, reply.data(), sizeof header);
    EXPECT_EQ(header.len, reply.size());
    EXPECT_EQ(header.unique, 7U);
    return {-header.error, {reply.begin() + sizeof header, reply.end()}};
  }
  FuseReply ask(const FuseRequest& request) { return ask(*server, request); }
  fuse_entry_out look_up(const std::string& name, std::uint64_t parent = kRoot) {
    const FuseReply reply = ask(FuseRequest(FUSE_LOOKUP, parent).text(name));
    EXPECT_EQ(reply.error, 0) << name;
    return reply.as<fuse_entry_out>();
  }
  std::uint64_t open(std::uint64_t node, int flags) {
    fuse_open_in in{};
    in.flags = static_cast<std::uint32_t>(flags);
    const FuseReply reply = ask(FuseRequest(FUSE_OPEN, node).with(in));
    EXPECT_EQ(reply.error, 0);
    return reply.as<fuse_open_out>().fh;
  }
  FuseReply read(std::uint64_t node, std::uint64_t handle, std::uint64_t offset, std::uint32_t size) {
    fuse_read_in in{};
    in.fh = handle;
    in.offset = offset;
    in.size = size;
    return ask(FuseRequest(FUSE_READ, node).with(in));
  }
  FuseReply write(std::uint64_t node, std::uint64_t handle, std::uint64_t offset, const std::string& text) {
    fuse_write_in in{};
    in.fh = handle;
    in.offset = offset;
    in.size = static_cast<std::uint32_t>(text.size());
    return ask(FuseRequest(FUSE_WRITE, node).with(in).data(text));
  }
  std::vector<std::string> list(std::uint64_t node, bool plus, std::uint32_t at_once = 4096) {
    const std::uint64_t handle = ask(FuseRequest(FUSE_OPENDIR, node).with(fuse_open_in{})).as<fuse_open_out>().fh;
    std::vector<std::string> names;
    fuse_read_in in{};
    in.fh = handle;
    in.size = at_once;
    for (;;) {
      const FuseReply reply = ask(FuseRequest(plus ? FUSE_READDIRPLUS : FUSE_READDIR, node).with(in));
      EXPECT_EQ(reply.error, 0);
      if (reply.body.empty()) return names;
      for (std::size_t at = 0; at < reply.body.size();) {
        const std::size_t before = plus ? sizeof(fuse_entry_out) : 0;
        const auto entry = reply.as<fuse_dirent>(at + before);
        names.push_back(reply.text().substr(at + before + FUSE_NAME_OFFSET, entry.namelen));
        if (plus && names.back() != "." && names.back() != "..") {
          EXPECT_NE(reply.as<fuse_entry_out>(at).nodeid, 0U) << names.back();
        }
        in.offset = entry.off;
        at += FUSE_DIRENT_ALIGN(before + FUSE_NAME_OFFSET + entry.namelen);
      }
    }
  }
  std::string contents(const std::string& name) const {
    std::ifstream file(shared + "/" + name);
    return {std::istreambuf_iterator<char>(file), {}};
  }

  const test::TemporaryDirectory directory;
  const std::string shared = directory.path() + "/shared";
  std::unique_ptr<FileServer> server;
};

TEST_F(Share, ReadsAndWritesAFile) {
  std::ofstream(shared + "/file") << "hello";
  const fuse_entry_out entry = look_up("file");
  EXPECT_EQ(entry.attr.size, 5U);
  EXPECT_EQ(entry.attr.uid, 0U) << "the user's own files are root's";
  const std::uint64_t handle = open(entry.nodeid, O_RDWR);
  EXPECT_EQ(read(entry.nodeid, handle, 1, 100).text(), "ello");
  EXPECT_EQ(read(entry.nodeid, handle, 100, 100).text(), "");
  EXPECT_EQ(write(entry.nodeid, handle, 3, "p me").as<fuse_write_out>().size, 4U);
  EXPECT_EQ(contents("file"), "help me");
  fuse_release_in in{};
  in.fh = handle;
  EXPECT_EQ(ask(FuseRequest(FUSE_RELEASE, entry.nodeid).with(in)).error, 0);
  EXPECT_EQ(read(entry.nodeid, handle, 0, 1).error, EBADF);
}

TEST_F(Share, NothingOutsideCanBeNamed) {
  fs::create_symlink("../secret", shared + "/link");
  fs::create_symlink(directory.path(), shared + "/up");
  fs::create_directory(shared + "/inner");
  for (const char* const name : {"..", ".", "", "/etc/passwd", "../secret", "inner/..", "up/secret"}) {
    EXPECT_EQ(ask(FuseRequest(FUSE_LOOKUP, kRoot).text(name)).error, ENOENT) << name;
    EXPECT_NE(ask(FuseRequest(FUSE_UNLINK, kRoot).text(name)).error, 0) << name;
    EXPECT_NE(ask(FuseRequest(FUSE_MKDIR, kRoot).with(fuse_mkdir_in{}).text(name)).error, 0) << name;
    EXPECT_NE(ask(FuseRequest(FUSE_CREATE, kRoot).with(fuse_create_in{}).text(name)).error, 0) << name;
    EXPECT_NE(ask(FuseRequest(FUSE_SYMLINK, kRoot).text(name).text("x")).error, 0) << name;
  }
  const std::uint64_t inner = look_up("inner").nodeid;
  EXPECT_EQ(ask(FuseRequest(FUSE_LOOKUP, inner).text("..")).error, ENOENT);
  // A link is read, not followed: that is the guest's affair.
  const fuse_entry_out link = look_up("link");
  EXPECT_EQ(ask(FuseRequest(FUSE_READLINK, link.nodeid)).text(), "../secret");
  EXPECT_EQ(ask(FuseRequest(FUSE_OPEN, link.nodeid).with(fuse_open_in{})).error, ELOOP);
  fuse_setattr_in mode{};
  mode.valid = FATTR_MODE;
  mode.mode = 0777;
  EXPECT_NE(ask(FuseRequest(FUSE_SETATTR, link.nodeid).with(mode)).error, 0);
  EXPECT_EQ(ask(FuseRequest(FUSE_LOOKUP, look_up("up").nodeid).text("secret")).error, ESTALE);
}

TEST_F(Share, AFileThatBecameALinkIsNotFollowed) {
  std::ofstream(shared + "/file") << "mine";
  std::ofstream(shared + "/other") << "another";
  const std::uint64_t node = look_up("file").nodeid;
  fs::remove(shared + "/file");
  fs::create_symlink("../secret", shared + "/file");
  fuse_open_in in{};
  in.flags = O_RDWR | O_TRUNC;
  EXPECT_NE(ask(FuseRequest(FUSE_OPEN, node).with(in)).error, 0);
  fs::rename(shared + "/other", shared + "/file");
  EXPECT_EQ(ask(FuseRequest(FUSE_OPEN, node).with(in)).error, ESTALE);
  EXPECT_EQ(contents("file"), "another") << "cut off before it was known";
  EXPECT_EQ(ask(FuseRequest(FUSE_GETATTR, node).with(fuse_getattr_in{})).error, ESTALE);
}

TEST_F(Share, MakesMovesAndRemoves) {
  fuse_create_in create{};
  create.flags = O_WRONLY | O_CREAT | O_EXCL;
  create.mode = S_IFREG | 06640;
  const FuseReply made = ask(FuseRequest(FUSE_CREATE, kRoot).with(create).text("new"));
  ASSERT_EQ(made.error, 0);
  const auto entry = made.as<fuse_entry_out>();
  EXPECT_EQ(entry.attr.mode, S_IFREG | 0640U) << "set-user-ID would be the host user's";
  EXPECT_EQ(write(entry.nodeid, made.as<fuse_open_out>(sizeof entry).fh, 0, "text").error, 0);
  EXPECT_EQ(ask(FuseRequest(FUSE_CREATE, kRoot).with(create).text("new")).error, EEXIST);

  fuse_mkdir_in mkdir{};
  mkdir.mode = 0755;
  const auto inner = ask(FuseRequest(FUSE_MKDIR, kRoot).with(mkdir).text("inner")).as<fuse_entry_out>().nodeid;
  fuse_rename2_in rename{};
  rename.newdir = inner;
  EXPECT_EQ(ask(FuseRequest(FUSE_RENAME2, kRoot).with(rename).text("new").text("moved")).error, 0);
  EXPECT_EQ(contents("inner/moved"), "text");
  // The guest goes on with the number that it knows.
  EXPECT_EQ(ask(FuseRequest(FUSE_GETATTR, entry.nodeid).with(fuse_getattr_in{})).as<fuse_attr_out>().attr.size, 4U);
  fuse_link_in link{};
  link.oldnodeid = entry.nodeid;
  EXPECT_EQ(ask(FuseRequest(FUSE_LINK, kRoot).with(link).text("again")).as<fuse_entry_out>().attr.nlink, 2U);
  EXPECT_EQ(ask(FuseRequest(FUSE_SYMLINK, kRoot).text("pointer").text("inner/moved")).error, 0);
  EXPECT_EQ(fs::read_symlink(shared + "/pointer"), "inner/moved");

  EXPECT_EQ(ask(FuseRequest(FUSE_RMDIR, kRoot).text("inner")).error, ENOTEMPTY);
  EXPECT_EQ(ask(FuseRequest(FUSE_UNLINK, inner).text("moved")).error, 0);
  EXPECT_EQ(ask(FuseRequest(FUSE_RMDIR, kRoot).text("inner")).error, 0);
  EXPECT_EQ(ask(FuseRequest(FUSE_UNLINK, kRoot).text("nothing")).error, ENOENT);
  fuse_mknod_in device{};
  device.mode = S_IFCHR | 0666;
  EXPECT_EQ(ask(FuseRequest(FUSE_MKNOD, kRoot).with(device).text("device")).error, EPERM);
}

TEST_F(Share, ChangesAttributes) {
  std::ofstream(shared + "/file") << "0123456789";
  const std::uint64_t node = look_up("file").nodeid;
  fuse_setattr_in in{};
  in.valid = FATTR_SIZE | FATTR_MODE | FATTR_MTIME | FATTR_UID;
  in.size = 4;
  in.mode = 0600;
  in.mtime = 1'000'000;
  const FuseReply reply = ask(FuseRequest(FUSE_SETATTR, node).with(in));
  ASSERT_EQ(reply.error, 0);
  EXPECT_EQ(reply.as<fuse_attr_out>().attr.size, 4U);
  EXPECT_EQ(reply.as<fuse_attr_out>().attr.mode, S_IFREG | 0600U);
  EXPECT_EQ(reply.as<fuse_attr_out>().attr.mtime, 1'000'000U);
  EXPECT_EQ(contents("file"), "0123");
  in.valid = FATTR_UID;
  in.uid = 1234567;
  EXPECT_EQ(ask(FuseRequest(FUSE_SETATTR, node).with(in)).error, EPERM);
}

TEST_F(Share, ListsDirectoriesInPieces) {
  std::vector<std::string> names{".", ".."};
  for (int i = 0; i < 300; ++i) {
    names.push_back("a file with number " + std::to_string(i));
    std::ofstream(shared + "/" + names.back()) << i;
  }
  EXPECT_THAT(list(kRoot, false), testing::UnorderedElementsAreArray(names));
  EXPECT_THAT(list(kRoot, true), testing::UnorderedElementsAreArray(names));
  EXPECT_THAT(list(kRoot, true, 300), testing::UnorderedElementsAreArray(names));
}

TEST_F(Share, AReadOnlyOneIsNotWritten) {
  std::ofstream(shared + "/file") << "as it was";
  server = make(true);
  const std::uint64_t node = look_up("file").nodeid;
  for (const int flags : {O_WRONLY, O_RDWR, O_RDONLY | O_TRUNC}) {
    fuse_open_in in{};
    in.flags = static_cast<std::uint32_t>(flags);
    EXPECT_EQ(ask(FuseRequest(FUSE_OPEN, node).with(in)).error, EROFS);
  }
  EXPECT_EQ(ask(FuseRequest(FUSE_UNLINK, kRoot).text("file")).error, EROFS);
  EXPECT_EQ(ask(FuseRequest(FUSE_MKDIR, kRoot).with(fuse_mkdir_in{}).text("d")).error, EROFS);
  fuse_setattr_in in{};
  in.valid = FATTR_SIZE;
  EXPECT_EQ(ask(FuseRequest(FUSE_SETATTR, node).with(in)).error, EROFS);
  EXPECT_EQ(read(node, open(node, O_RDONLY), 0, 100).text(), "as it was");
}

TEST_F(Share, WhatIsForgottenIsStale) {
  fs::create_directories(shared + "/a/b");
  const std::uint64_t a = look_up("a").nodeid;
  const std::uint64_t b = look_up("b", a).nodeid;
  look_up("b", a);
  fuse_forget_in once{};
  once.nlookup = 1;
  std::vector<std::byte> reply;
  server->handle(FuseRequest(FUSE_FORGET, a).with(once).bytes, kRoom, reply);
  EXPECT_TRUE(reply.empty());
  EXPECT_EQ(ask(FuseRequest(FUSE_GETATTR, b).with(fuse_getattr_in{})).error, 0) << "its child keeps it";
  server->handle(FuseRequest(FUSE_FORGET, b).with(once).bytes, kRoom, reply);
  EXPECT_EQ(ask(FuseRequest(FUSE_GETATTR, b).with(fuse_getattr_in{})).error, 0) << "looked up twice";
  server->handle(FuseRequest(FUSE_FORGET, b).with(once).bytes, kRoom, reply);
  EXPECT_EQ(ask(FuseRequest(FUSE_GETATTR, b).with(fuse_getattr_in{})).error, ESTALE);
  EXPECT_EQ(ask(FuseRequest(FUSE_GETATTR, a).with(fuse_getattr_in{})).error, ESTALE);
}

TEST_F(Share, AnOpenFileOutlivesItsName) {
  std::ofstream(shared + "/file") << "still here";
  const std::uint64_t node = look_up("file").nodeid;
  const std::uint64_t handle = open(node, O_RDWR);
  EXPECT_EQ(ask(FuseRequest(FUSE_UNLINK, kRoot).text("file")).error, 0);
  EXPECT_EQ(read(node, handle, 0, 100).text(), "still here");
  EXPECT_EQ(ask(FuseRequest(FUSE_GETATTR, node).with(fuse_getattr_in{})).as<fuse_attr_out>().attr.size, 10U);
}

TEST_F(Share, NonsenseIsAnErrorAndTooLittleRoomToo) {
  EXPECT_EQ(ask(FuseRequest(4711, kRoot)).error, ENOSYS);
  EXPECT_EQ(ask(FuseRequest(FUSE_GETATTR, 99).with(fuse_getattr_in{})).error, ESTALE);
  std::ofstream(shared + "/file") << "x";
  EXPECT_EQ(ask(*server, FuseRequest(FUSE_LOOKUP, kRoot).text("file"), sizeof(fuse_out_header) + 8).error, EINVAL);
  FuseRequest unended(FUSE_LOOKUP, kRoot);
  unended.data("file");
  EXPECT_EQ(ask(unended).error, ENOENT);
  std::vector<std::byte> reply;
  server->handle({}, kRoom, reply);
  EXPECT_TRUE(reply.empty());
  fuse_init_in old{};
  old.major = FUSE_KERNEL_VERSION;
  old.minor = 8;
  EXPECT_EQ(ask(FuseRequest(FUSE_INIT, 0).with(old)).error, EPROTO);
}

}  // namespace
}  // namespace doppel::share
