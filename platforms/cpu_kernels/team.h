// Threads that work together on one op. TensorFlow's own are out of reach of its C API.
#ifndef SPARSENET_TEAM_H_
#define SPARSENET_TEAM_H_

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace sparsenet {

class Team {
 public:
  inline static int use_threads = 1;  // of the team that begins to work

  explicit Team(int size) {
    for (int i = 1; i < size; ++i) threads_.emplace_back([this] { WorkForEver(); });
  }

  // The op that holds it has the team for itself.
  std::mutex& owner() { return owner_; }

  // Do the units of a piece of work, in whatever order; return once all are done.
  void Run(int64_t units, const std::function<void(int64_t)>& work) {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      work_ = &work;
      units_ = units;
      next_ = 0;
      busy_ = threads_.size();
      ++round_;
    }
    start_.notify_all();
    TakeUnits();
    std::unique_lock<std::mutex> lock(mutex_);
    done_.wait(lock, [this] { return busy_ == 0; });
  }

 private:
  void TakeUnits() {
    for (int64_t unit; (unit = next_++) < units_;) (*work_)(unit);
  }

  void WorkForEver() {
    for (int64_t seen = 0;;) {
      {
        std::unique_lock<std::mutex> lock(mutex_);
        start_.wait(lock, [&] { return round_ != seen; });
        seen = round_;
      }
      TakeUnits();
      std::lock_guard<std::mutex> lock(mutex_);
      if (--busy_ == 0) done_.notify_one();
    }
  }

  std::vector<std::thread> threads_;
  std::mutex owner_, mutex_;
  std::condition_variable start_, done_;
  const std::function<void(int64_t)>* work_ = nullptr;
  int64_t units_ = 0, round_ = 0;
  size_t busy_ = 0;
  std::atomic<int64_t> next_{0};
};

// Return the team of this process; it is never ended, since its threads wait when the process ends.
inline Team& TheTeam() {
  static Team* team = new Team(Team::use_threads);
  return *team;
}

}  // namespace sparsenet

#endif  // SPARSENET_TEAM_H_
