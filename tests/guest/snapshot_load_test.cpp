// A machine of four processors that compiles, writes and reads disks, sends and receives over TCP and looks at its
// clock is saved and restored again and again, on both engines. DOPPEL_SNAPSHOT_ROUNDS says how often, if not three
// times; DOPPEL_SNAPSHOT_USERLAND names the cpio archive of bench/run (fetched by bench/fetch-userland) with the
// compiler, without which nothing is compiled.

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <iostream>
#include <random>
#include <thread>
#include <vector>

#include "guest/snapshots_fixture.h"

namespace doppel::test {
namespace {

/// A server on the host for each direction, which takes its time, so that some transfer is under way at any time.
class SlowServer {
 public:
  static constexpr std::size_t kChunk = 32768, kChunks = 64;
  enum class Direction : std::uint8_t { ToGuest, FromGuest };

  explicit SlowServer(Direction direction) : direction_(direction) {
    listener_ = UniqueFd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    EXPECT_EQ(::bind(listener_.get(), reinterpret_cast<sockaddr*>(&address), size), 0);
    EXPECT_EQ(::listen(listener_.get(), 16), 0);
    EXPECT_EQ(::getsockname(listener_.get(), reinterpret_cast<sockaddr*>(&address), &size), 0);
    port_ = ntohs(address.sin_port);
    acceptor_ = std::thread([this] { accept_all(); });
  }
  ~SlowServer() {
    ended_ = true;
    ::shutdown(listener_.get(), SHUT_RDWR);
    acceptor_.join();
    for (std::thread& thread : threads_) thread.join();
  }
  SlowServer(const SlowServer&) = delete;
  SlowServer& operator=(const SlowServer&) = delete;

  unsigned port() const { return port_; }
  /// How many transfers have come to their end, as far as the host can know.
  unsigned served() const { return served_; }
  /// How many have come to an orderly end with something else than all that there was to send.
  unsigned wrong() const { return wrong_; }

 private:
  void accept_all() {
    for (;;) {
      UniqueFd client(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
      if (!client.valid()) return;
      threads_.emplace_back([this, fd = std::move(client)] { serve(fd.get()); });
    }
  }
  void serve(int fd) { direction_ == Direction::ToGuest ? send_all(fd) : receive_all(fd); }
  void send_all(int fd) {
    std::array<char, kChunk> bytes{};
    for (std::size_t i = 0; i < kChunks && !ended_; ++i) {
      bytes.fill(static_cast<char>('a' + i % 26));
      std::size_t sent = 0;
      while (sent < bytes.size()) {
        const ssize_t done = ::send(fd, bytes.data() + sent, bytes.size() - sent, MSG_NOSIGNAL);
        if (done <= 0) return;
        sent += static_cast<std::size_t>(done);
      }
      ::usleep(kPauseMicroseconds);
    }
    ++served_;
  }
  /// The same contents. A guest that is put back resets its connection; whatever ends in order must be whole.
  void receive_all(int fd) {
    std::array<char, kChunk> bytes{};
    std::size_t got = 0;
    bool good = true;
    while (!ended_) {
      pollfd readable{fd, POLLIN, 0};
      if (::poll(&readable, 1, kPatienceMs) == 0) continue;
      const ssize_t more = ::recv(fd, bytes.data(), bytes.size(), 0);
      if (more < 0) return;
      if (more == 0) {
        ++(good && got == kChunk * kChunks ? served_ : wrong_);
        return;
      }
      for (ssize_t i = 0; i < more; ++i, ++got) {
        good = good && bytes[static_cast<std::size_t>(i)] == static_cast<char>('a' + got / kChunk % 26);
      }
      ::usleep(kPauseMicroseconds);
    }
  }

  static constexpr useconds_t kPauseMicroseconds = 5000;
  static constexpr int kPatienceMs = 100;
  const Direction direction_;
  UniqueFd listener_;
  unsigned port_ = 0;
  std::atomic<bool> ended_ = false;
  std::atomic<unsigned> served_ = 0, wrong_ = 0;
  std::vector<std::thread> threads_;
  std::thread acceptor_;
};

constexpr const char* kPreparation = R"sh(
mkdir -p /a /b
mke2fs -q /dev/vda >/dev/null 2>&1 && mount /dev/vda /a || echo "no disk" >>/tmp/wrong
mke2fs -q /dev/vdb >/dev/null 2>&1 && mount /dev/vdb /b || echo "no second disk" >>/tmp/wrong
seq 1 30000 >/tmp/file
md5sum </tmp/file >/tmp/file.sum
for i in $(seq 0 63); do
  c=$(printf "\\$(printf %o $((97 + i % 26)))")
  head -c 32768 /dev/zero | tr '\0' $c
done >/tmp/sent
md5sum </tmp/sent >/tmp/sent.sum
mkfifo /tmp/silence
)sh";

/// Each is a loop of its own, with its number of rounds in /tmp/rounds.NAME.
constexpr const char* kDisks = R"sh(
  cp /tmp/file /a/f$((n % 10)); cp /tmp/file /b/f$((n % 10))
  [ $((n % 3)) != 0 ] || sync
  echo 1 >/proc/sys/vm/drop_caches
  for f in /a/f$((n % 10)) /b/f$((n % 10)) /a/f$(((n * 7 + 3) % 10)); do
    [ ! -e $f ] || [ "$(md5sum <$f)" = "$(cat /tmp/file.sum)" ] || echo "disks, round $n: another sum of $f" >>/tmp/wrong
  done
)sh";
/// Who says nothing learns all the same that a connection of before a restore is gone, and begins anew.
constexpr const char* kReceiver = R"sh(
  nc 10.0.2.2 PORT <>/tmp/silence >/tmp/received 2>/dev/null
  size=$(wc -c </tmp/received)
  if [ $size != 2097152 ]; then
    echo $size >>/tmp/cut
  elif [ "$(md5sum </tmp/received)" != "$(cat /tmp/sent.sum)" ]; then
    echo "receiver, round $n: another sum" >>/tmp/wrong
  fi
)sh";
/// The other side says whether all has come.
constexpr const char* kSender = R"sh(
  nc 10.0.2.2 PORT </tmp/sent >/dev/null 2>&1
)sh";
constexpr const char* kClock = R"sh(
  usleep 20000
  now=$(cut -d. -f1 /proc/uptime)
  [ $now -ge ${last:-0} ] || echo "clock: it went from $last to $now" >>/tmp/wrong
  last=$now
)sh";
constexpr const char* kCompiler = R"sh(
  chroot /u gcc -O1 -c /tmp/x.c -o /tmp/x.o 2>/tmp/gcc || echo "compiler, round $n: $(head -n 1 /tmp/gcc)" >>/tmp/wrong
  sum=$(md5sum </u/tmp/x.o)
  [ "$sum" = "${first:=$sum}" ] || echo "compiler, round $n: another object" >>/tmp/wrong
)sh";
constexpr const char* kCompilerPreparation = R"sh(
mkdir /u && mount -t tmpfs -o size=400m none /u && cd /u && cpio -id </dev/vdc 2>/dev/null
mount --bind /dev /u/dev
i=0
while [ $i -lt 60 ]; do
  echo "int f$i(int a, int *b) { for (int i = 0; i < a; ++i) b[i] = b[a - i] * $i + i; return b[a / 3]; }"
  i=$((i + 1))
done >/u/tmp/x.c
[ -x /u/usr/bin/gcc ] || echo "no compiler" >>/tmp/wrong
)sh";

class SnapshotsUnderLoad : public Snapshots {
 protected:
  SnapshotsUnderLoad() {
    ok({"image", "create", "-q", "-f", "qcow2", directory_ / "disk.qcow2", "256M"});
    ok({"image", "create", "-q", "-f", "raw", directory_ / "disk.raw", "64M"});
  }

  void begin(const std::string& name, std::string round) {
    const std::string script = "n=0\nuntil [ -e /tmp/stop ]; do\n" + round + "n=$((n + 1))\necho $n >/tmp/n." + name +
                               " && mv /tmp/n." + name + " /tmp/rounds." + name + "\ndone\n";
    guest("web", "echo 0 >/tmp/rounds." + name + "; cat >/tmp/" + name + " <<'END'\n" + script + "END\nsh /tmp/" +
                     name + " </dev/null >/dev/null 2>&1 &");
    loads_.push_back(name);
  }
  /// Lets every load of these come further by a round, and says what all have found wrong, and the kernel; but not that
  /// a processor was late, which on a busy host one may be.
  std::string work(const std::vector<std::string>& names) {
    std::string script;
    for (const std::string& name : names) script += name + "=$(cat /tmp/rounds." + name + ")\n";
    for (const std::string& name : names) {
      script += "until [ $(cat /tmp/rounds." + name + ") -gt $" + name + " ]; do usleep 20000; done\n";
    }
    return guest("web", script +
                            "cat /tmp/wrong 2>/dev/null; dmesg | grep -iE 'bug:|oops|unstable|corrupt|i.o "
                            "error|ext2-fs error' | grep -v lockup; true");
  }
  double uptime() { return std::atof(guest("web", "cat /proc/uptime").c_str()); }
  static unsigned repetitions() {
    const char* const text = std::getenv("DOPPEL_SNAPSHOT_ROUNDS");
    return text == nullptr ? 3 : static_cast<unsigned>(std::atoi(text));
  }

  std::vector<std::string> loads_;
};

TEST_F(SnapshotsUnderLoad, FourProcessorsGoOnWithWhatTheyDid) {
  using Clock = std::chrono::steady_clock;
  const SlowServer server(SlowServer::Direction::ToGuest), sink(SlowServer::Direction::FromGuest);
  std::vector<std::string> options{"--memory", "768M", "--cpus", "4", "--net", "user"};
  for (const char* disk : {"disk.qcow2", "disk.raw,format=raw"}) {
    options.insert(options.end(), {"--disk", directory_ / disk});
  }
  const char* const userland = std::getenv("DOPPEL_SNAPSHOT_USERLAND");
  if (userland != nullptr) {
    options.insert(options.end(), {"--disk", std::string(userland) + ",format=raw,readonly"});
  }
  start("web", options);
  // On a busy host it boots for longer than a command waits for an agent.
  constexpr int kAttempts = 30;
  for (int i = 0; i < kAttempts && run_doppel({"exec", "web", "true"}).status != 0; ++i) {
  }
  guest("web", kPreparation);
  if (userland != nullptr) guest("web", kCompilerPreparation);
  const auto with_port = [](std::string script, const SlowServer& end) {
    return script.replace(script.find("PORT"), 4, std::to_string(end.port()));
  };
  begin("disks", kDisks);
  begin("receiver", with_port(kReceiver, server));
  begin("sender", with_port(kSender, sink));
  begin("clock", kClock);
  if (userland != nullptr) begin("compiler", kCompiler);

  std::minstd_rand random(1);
  constexpr unsigned kPauseMicroseconds = 1'000'000, kProgress = 10;
  unsigned restores = 0;
  for (unsigned i = 0; i < repetitions(); ++i) {
    SCOPED_TRACE(i);
    if (i % kProgress == 0 && i != 0) std::cout << i << " rounds" << std::endl;
    ASSERT_EQ(work({"disks", "receiver", "sender", "clock"}), "");
    ::usleep(static_cast<useconds_t>(random() % kPauseMicroseconds));
    const auto begun = Clock::now();
    const double before = uptime();
    ok({"snapshot", "create", "web", "now", "-q"});
    ::usleep(static_cast<useconds_t>(random() % kPauseMicroseconds));
    ok({"snapshot", "restore", "web", "now", "--engine", random() % 4 == 0 ? "interp" : "dbt"});
    ++restores;
    const double after = uptime();
    EXPECT_GE(after, before);
    // What the clock showed while nobody ran, or ran only to be discarded, would come on top of this.
    EXPECT_LE(after - before, std::chrono::duration<double>(Clock::now() - begun).count());
    ok({"snapshot", "delete", "web", "now"});
  }
  EXPECT_EQ(work(loads_), "");
  EXPECT_GT(server.served(), 0U);
  EXPECT_GT(sink.served(), 0U);
  EXPECT_EQ(sink.wrong(), 0U) << "what the guest sent did not come as it was, or ended early as if it were whole";
  // A snapshot cuts no connection, a restore each but once.
  EXPECT_LE(std::atoi(guest("web", "cat /tmp/cut 2>/dev/null | wc -l").c_str()), static_cast<int>(restores));
  ok({"kill", "web"});
  ok({"image", "check", "-q", directory_ / "disk.qcow2"});
}

}  // namespace
}  // namespace doppel::test
