
// Each block takes its samples through all steps.
extern "C" __global__ void __launch_bounds__(64, 8)
forward(const stored* __restrict__ all_x0, const stored* __restrict__ n0, const stored* __restrict__ n1, const stored* __restrict__ n2, const stored* __restrict__ n3, stored* __restrict__ all_out_y, entry* __restrict__ workspace, long long batch, int blocks) {
  extern __shared__ __align__(16) char memory[];
  entry* const block = (entry*)memory;
  entry* const n0_s = block + 0;
  entry* const n1_s = block + 4;
  entry* const n2_s = block + 12;
  entry* const n3_s = block + 20;
  entry* const t0 = block + 24;
  entry* const t1 = block + 36;
  // n0 into shared memory
  if (const int p = threadIdx.x; p < 4) {
    const int i0 = p;
    n0_s[i0] = wide(n0[i0]);
  }
  // n1 into shared memory
  if (const int p = (int)threadIdx.x - 4; 0 <= p && p < 6) {
    const int i0 = p;
    n1_s[i0] = wide(n1[i0]);
  }
  // n2 into shared memory
  if (const int p = (int)threadIdx.x - 10; 0 <= p && p < 6) {
    const int i0 = p;
    n2_s[i0] = wide(n2[i0]);
  }
  // n3 into shared memory
  if (const int p = (int)threadIdx.x - 16; 0 <= p && p < 4) {
    const int i0 = p;
    n3_s[i0] = wide(n3[i0]);
  }
  // t0 = n2 x n3
  __syncthreads();
  if (const int p = (int)threadIdx.x - 20; 0 <= p && p < 12) {
    const int i0 = p / 6; const int i1 = p / 2 % 3; const int i2 = p % 2;
    t0[i0 * 6 + i1 * 2 + i2] = n3_s[i0 * 2 + i2] * n2_s[i0 * 3 + i1];
  }
  // t1 = n0 x n1
  if (const int p = (int)threadIdx.x - 32; 0 <= p && p < 12) {
    const int i0 = p / 6; const int i1 = p / 3 % 2; const int i2 = p % 3;
    t1[i0 * 6 + i1 * 3 + i2] = n1_s[i1 + i2 * 2] * n0_s[i0 * 2 + i1];
  }
  for (long long first = (long long)blockIdx.x * 16; first < batch; first += (long long)gridDim.x * 16) {
    const stored* const x0 = all_x0 + first * 6;
    stored* const out_y = all_out_y + first * 6;
    // segment 0 forward: t2, t3
    __syncthreads();
    if (const int p = threadIdx.x; p < 16) {
      const int sample = p;
      const bool present = first + sample < batch;
      entry f0_x0[6];
      entry f0_t2[2];
      entry f0_t3[6];
      { const auto run = load<2>(&x0[sample * 6], present);
        f0_x0[0] = wide(run.v[0]);
        f0_x0[1] = wide(run.v[1]); }
      { const auto run = load<2>(&x0[2 + sample * 6], present);
        f0_x0[2] = wide(run.v[0]);
        f0_x0[3] = wide(run.v[1]); }
      { const auto run = load<2>(&x0[4 + sample * 6], present);
        f0_x0[4] = wide(run.v[0]);
        f0_x0[5] = wide(run.v[1]); }
      f0_t2[0] = t1[0] * f0_x0[0] + t1[1] * f0_x0[1] + t1[2] * f0_x0[2] + t1[6] * f0_x0[3] + t1[7] * f0_x0[4] + t1[8] * f0_x0[5];
      f0_t2[1] = t1[3] * f0_x0[0] + t1[4] * f0_x0[1] + t1[5] * f0_x0[2] + t1[9] * f0_x0[3] + t1[10] * f0_x0[4] + t1[11] * f0_x0[5];
      f0_t3[0] = t0[0] * f0_t2[0] + t0[6] * f0_t2[1];
      f0_t3[1] = t0[1] * f0_t2[0] + t0[7] * f0_t2[1];
      f0_t3[2] = t0[2] * f0_t2[0] + t0[8] * f0_t2[1];
      f0_t3[3] = t0[3] * f0_t2[0] + t0[9] * f0_t2[1];
      f0_t3[4] = t0[4] * f0_t2[0] + t0[10] * f0_t2[1];
      f0_t3[5] = t0[5] * f0_t2[0] + t0[11] * f0_t2[1];
      { together<2> run;
        run.v[0] = narrow(f0_t3[0]);
        run.v[1] = narrow(f0_t3[1]);
        if (present) store(&out_y[sample * 6], run); }
      { together<2> run;
        run.v[0] = narrow(f0_t3[2]);
        run.v[1] = narrow(f0_t3[3]);
        if (present) store(&out_y[2 + sample * 6], run); }
      { together<2> run;
        run.v[0] = narrow(f0_t3[4]);
        run.v[1] = narrow(f0_t3[5]);
        if (present) store(&out_y[4 + sample * 6], run); }
    }
  }
}


// Each block takes its samples through all steps.
extern "C" __global__ void __launch_bounds__(64, 8)
backward(const stored* __restrict__ all_g, const stored* __restrict__ all_x0, const stored* __restrict__ n0, const stored* __restrict__ n1, const stored* __restrict__ n2, const stored* __restrict__ n3, stored* __restrict__ all_out_d_x0, stored* __restrict__ out_d_n0, stored* __restrict__ out_d_n1, stored* __restrict__ out_d_n2, stored* __restrict__ out_d_n3, entry* __restrict__ workspace, long long batch, int blocks) {
  extern __shared__ __align__(16) char memory[];
  entry* const block = (entry*)memory;
  entry* const row = workspace + 48 + (long long)blockIdx.x * 24;
  entry* const n0_s = block + 48;
  entry* const n1_s = block + 52;
  entry* const n2_s = block + 60;
  entry* const n3_s = block + 68;
  entry* const t0 = block + 72;
  entry* const t1 = block + 84;
  entry* const d_t0_p = block + 0;
  for (int p = threadIdx.x; p < 24; p += 64) d_t0_p[p] = entry{};
  entry* const d_t1_p = block + 24;
  if (const int p = (int)threadIdx.x - 24; 0 <= p && p < 24) d_t1_p[p] = entry{};
  __syncthreads();
  // n0 into shared memory
  if (const int p = threadIdx.x; p < 4) {
    const int i0 = p;
    n0_s[i0] = wide(n0[i0]);
  }
  // n1 into shared memory
  if (const int p = (int)threadIdx.x - 4; 0 <= p && p < 6) {
    const int i0 = p;
    n1_s[i0] = wide(n1[i0]);
  }
  // n2 into shared memory
  if (const int p = (int)threadIdx.x - 10; 0 <= p && p < 6) {
    const int i0 = p;
    n2_s[i0] = wide(n2[i0]);
  }
  // n3 into shared memory
  if (const int p = (int)threadIdx.x - 16; 0 <= p && p < 4) {
    const int i0 = p;
    n3_s[i0] = wide(n3[i0]);
  }
  // t0 = n2 x n3
  __syncthreads();
  if (const int p = (int)threadIdx.x - 20; 0 <= p && p < 12) {
    const int i0 = p / 6; const int i1 = p / 2 % 3; const int i2 = p % 2;
    t0[i0 * 6 + i1 * 2 + i2] = n3_s[i0 * 2 + i2] * n2_s[i0 * 3 + i1];
  }
  // t1 = n0 x n1
  if (const int p = (int)threadIdx.x - 32; 0 <= p && p < 12) {
    const int i0 = p / 6; const int i1 = p / 3 % 2; const int i2 = p % 3;
    t1[i0 * 6 + i1 * 3 + i2] = n1_s[i1 + i2 * 2] * n0_s[i0 * 2 + i1];
  }
  for (long long first = (long long)blockIdx.x * 16; first < batch; first += (long long)gridDim.x * 16) {
    const stored* const g = all_g + first * 6;
    const stored* const x0 = all_x0 + first * 6;
    stored* const out_d_x0 = all_out_d_x0 + first * 6;
    // segment 0 reverse: t2, d_t0, d_t2, d_t1, d_x0
    __syncthreads();
    if (const int p = threadIdx.x; __any_sync(0xffffffffu, p < 32)) {
      const bool mine = p < 16; const int q = mine ? p : 15;
      const int sample = q;
      const bool present = first + sample < batch;
      entry r0_x0[6];
      entry r0_t2[2];
      entry r0_g[6];
      entry r0_d_t0[12];
      entry r0_d_t2[2];
      entry r0_d_t1[12];
      entry r0_d_x0[6];
      { const auto run = load<2>(&x0[sample * 6], present);
        r0_x0[0] = wide(run.v[0]);
        r0_x0[1] = wide(run.v[1]); }
      { const auto run = load<2>(&x0[2 + sample * 6], present);
        r0_x0[2] = wide(run.v[0]);
        r0_x0[3] = wide(run.v[1]); }
      { const auto run = load<2>(&x0[4 + sample * 6], present);
        r0_x0[4] = wide(run.v[0]);
        r0_x0[5] = wide(run.v[1]); }
      r0_t2[0] = t1[0] * r0_x0[0] + t1[1] * r0_x0[1] + t1[2] * r0_x0[2] + t1[6] * r0_x0[3] + t1[7] * r0_x0[4] + t1[8] * r0_x0[5];
      r0_t2[1] = t1[3] * r0_x0[0] + t1[4] * r0_x0[1] + t1[5] * r0_x0[2] + t1[9] * r0_x0[3] + t1[10] * r0_x0[4] + t1[11] * r0_x0[5];
      { const auto run = load<2>(&g[sample * 6], present);
        r0_g[0] = wide(run.v[0]);
        r0_g[1] = wide(run.v[1]); }
      { const auto run = load<2>(&g[2 + sample * 6], present);
        r0_g[2] = wide(run.v[0]);
        r0_g[3] = wide(run.v[1]); }
      { const auto run = load<2>(&g[4 + sample * 6], present);
        r0_g[4] = wide(run.v[0]);
        r0_g[5] = wide(run.v[1]); }
      r0_d_t0[0] = r0_t2[0] * r0_g[0];
      r0_d_t0[6] = r0_t2[1] * r0_g[0];
      r0_d_t0[1] = r0_t2[0] * r0_g[1];
      r0_d_t0[7] = r0_t2[1] * r0_g[1];
      r0_d_t0[2] = r0_t2[0] * r0_g[2];
      r0_d_t0[8] = r0_t2[1] * r0_g[2];
      r0_d_t0[3] = r0_t2[0] * r0_g[3];
      r0_d_t0[9] = r0_t2[1] * r0_g[3];
      r0_d_t0[4] = r0_t2[0] * r0_g[4];
      r0_d_t0[10] = r0_t2[1] * r0_g[4];
      r0_d_t0[5] = r0_t2[0] * r0_g[5];
      r0_d_t0[11] = r0_t2[1] * r0_g[5];
      if (!(mine && present)) for (int k = 0; k < 12; k++) r0_d_t0[k] = entry{};
      sum_warp<16, 0>(d_t0_p + threadIdx.x / 32 * 12, r0_d_t0);
      r0_d_t2[0] = t0[0] * r0_g[0] + t0[1] * r0_g[1] + t0[2] * r0_g[2] + t0[3] * r0_g[3] + t0[4] * r0_g[4] + t0[5] * r0_g[5];
      r0_d_t2[1] = t0[6] * r0_g[0] + t0[7] * r0_g[1] + t0[8] * r0_g[2] + t0[9] * r0_g[3] + t0[10] * r0_g[4] + t0[11] * r0_g[5];
      r0_d_t1[0] = r0_x0[0] * r0_d_t2[0];
      r0_d_t1[1] = r0_x0[1] * r0_d_t2[0];
      r0_d_t1[2] = r0_x0[2] * r0_d_t2[0];
      r0_d_t1[6] = r0_x0[3] * r0_d_t2[0];
      r0_d_t1[7] = r0_x0[4] * r0_d_t2[0];
      r0_d_t1[8] = r0_x0[5] * r0_d_t2[0];
      r0_d_t1[3] = r0_x0[0] * r0_d_t2[1];
      r0_d_t1[4] = r0_x0[1] * r0_d_t2[1];
      r0_d_t1[5] = r0_x0[2] * r0_d_t2[1];
      r0_d_t1[9] = r0_x0[3] * r0_d_t2[1];
      r0_d_t1[10] = r0_x0[4] * r0_d_t2[1];
      r0_d_t1[11] = r0_x0[5] * r0_d_t2[1];
      if (!(mine && present)) for (int k = 0; k < 12; k++) r0_d_t1[k] = entry{};
      sum_warp<16, 0>(d_t1_p + threadIdx.x / 32 * 12, r0_d_t1);
      r0_d_x0[0] = t1[0] * r0_d_t2[0] + t1[3] * r0_d_t2[1];
      r0_d_x0[1] = t1[1] * r0_d_t2[0] + t1[4] * r0_d_t2[1];
      r0_d_x0[2] = t1[2] * r0_d_t2[0] + t1[5] * r0_d_t2[1];
      r0_d_x0[3] = t1[6] * r0_d_t2[0] + t1[9] * r0_d_t2[1];
      r0_d_x0[4] = t1[7] * r0_d_t2[0] + t1[10] * r0_d_t2[1];
      r0_d_x0[5] = t1[8] * r0_d_t2[0] + t1[11] * r0_d_t2[1];
      { together<2> run;
        run.v[0] = narrow(r0_d_x0[0]);
        run.v[1] = narrow(r0_d_x0[1]);
        if (present && mine) store(&out_d_x0[sample * 6], run); }
      { together<2> run;
        run.v[0] = narrow(r0_d_x0[2]);
        run.v[1] = narrow(r0_d_x0[3]);
        if (present && mine) store(&out_d_x0[2 + sample * 6], run); }
      { together<2> run;
        run.v[0] = narrow(r0_d_x0[4]);
        run.v[1] = narrow(r0_d_x0[5]);
        if (present && mine) store(&out_d_x0[4 + sample * 6], run); }
    }
  }
  __syncthreads();
  for (int p = threadIdx.x; p < 12; p += 64) {
    entry v = d_t0_p[p];
    for (int w = 1; w < 2; w++) v += d_t0_p[w * 12 + p];
    row[0 + p] = v;
  }
  if (const int p = (int)threadIdx.x - 12; 0 <= p && p < 12) {
    entry v = d_t1_p[p];
    for (int w = 1; w < 2; w++) v += d_t1_p[w * 12 + p];
    row[12 + p] = v;
  }
}

// one block
extern "C" __global__ void __launch_bounds__(512, 1)
backward_after0(const stored* __restrict__ all_g, const stored* __restrict__ all_x0, const stored* __restrict__ n0, const stored* __restrict__ n1, const stored* __restrict__ n2, const stored* __restrict__ n3, stored* __restrict__ all_out_d_x0, stored* __restrict__ out_d_n0, stored* __restrict__ out_d_n1, stored* __restrict__ out_d_n2, stored* __restrict__ out_d_n3, entry* __restrict__ workspace, long long batch, int blocks) {
  __shared__ entry d_t0[12];
  __shared__ entry d_t1[12];
  __shared__ entry n0_k[4];
  __shared__ entry n1_k[6];
  __shared__ entry n2_k[6];
  __shared__ entry n3_k[4];
  __shared__ entry rows[512];
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  // The first block makes several groups of results, each with some of its warps.
  const int groups = blockIdx.x ? 1 : 2;
  const int group = blockIdx.x ? 1 + blockIdx.x : warp % 2;
  const int slices = blockIdx.x ? 16 : 6, slice = warp / groups;
  long long place = -1;
  int to = 0;
  stored* outside = nullptr;
  entry* inside = nullptr;
  if (group < 1) {
    const int p = group * 32 + lane;
    if (p < 12) {
      const int i0 = p;
      place = 48 + i0, to = i0, inside = d_t0;
    }
  } else {
    const int p = (group - 1) * 32 + lane;
    if (p < 12) {
      const int i0 = p;
      place = 60 + i0, to = i0, inside = d_t1;
    }
  }
  entry v = entry{};
  if (place >= 0 && slice < slices)
    v = sum_rows(workspace + place, 24, slice, slices, blocks);
  rows[threadIdx.x] = v;
  if (blockIdx.x == 0) {
    if (const int p = (int)threadIdx.x - 384; 0 <= p && p < 4) {
      const int i0 = p;
      n0_k[i0] = wide(n0[i0]);
    }
    if (const int p = (int)threadIdx.x - 388; 0 <= p && p < 6) {
      const int i0 = p;
      n1_k[i0] = wide(n1[i0]);
    }
    if (const int p = (int)threadIdx.x - 394; 0 <= p && p < 6) {
      const int i0 = p;
      n2_k[i0] = wide(n2[i0]);
    }
    if (const int p = (int)threadIdx.x - 400; 0 <= p && p < 4) {
      const int i0 = p;
      n3_k[i0] = wide(n3[i0]);
    }
  }
  __syncthreads();
  if (place >= 0 && slice == 0) {
    for (int k = 1; k < slices; k++) v += rows[k * groups * 32 + threadIdx.x];
    if (outside) outside[to] = narrow(v);
    else inside[to] = v;
  }
  if (blockIdx.x > 0) return;
  // d_t0 summed up; d_t1 summed up; n0 into shared memory; n1 into shared memory; n2 into shared memory; n3 into shared memory; d_n0 = d_t1 x n1, sum e1; d_n1 = d_t1 x n0, sum e0; d_n3 = d_t0 x n2, sum e2; d_n2 = d_t0 x n3, sum e3
  __syncthreads();
  if (const int p = threadIdx.x; p < 4) {
    const int i0 = p / 2; const int i1 = p % 2;
    {
      entry sum0_0 = entry{};
      sum0_0 += n1_k[i1] * d_t1[i0 * 6 + i1 * 3];
      sum0_0 += n1_k[2 + i1] * d_t1[1 + i0 * 6 + i1 * 3];
      sum0_0 += n1_k[4 + i1] * d_t1[2 + i0 * 6 + i1 * 3];
      out_d_n0[i0 * 2 + i1] = narrow(sum0_0);
    }
  }
  if (const int p = (int)threadIdx.x - 4; 0 <= p && p < 6) {
    const int i0 = p / 2; const int i1 = p % 2;
    {
      entry sum0_0 = entry{};
      sum0_0 += n0_k[i1] * d_t1[i0 + i1 * 3];
      sum0_0 += n0_k[2 + i1] * d_t1[6 + i0 + i1 * 3];
      out_d_n1[i0 * 2 + i1] = narrow(sum0_0);
    }
  }
  if (const int p = (int)threadIdx.x - 10; 0 <= p && p < 4) {
    const int i0 = p / 2; const int i1 = p % 2;
    {
      entry sum0_0 = entry{};
      sum0_0 += n2_k[i0 * 3] * d_t0[i0 * 6 + i1];
      sum0_0 += n2_k[1 + i0 * 3] * d_t0[2 + i0 * 6 + i1];
      sum0_0 += n2_k[2 + i0 * 3] * d_t0[4 + i0 * 6 + i1];
      out_d_n3[i0 * 2 + i1] = narrow(sum0_0);
    }
  }
  if (const int p = (int)threadIdx.x - 14; 0 <= p && p < 6) {
    const int i0 = p / 3; const int i1 = p % 3;
    {
      entry sum0_0 = entry{};
      sum0_0 += n3_k[i0 * 2] * d_t0[i0 * 6 + i1 * 2];
      sum0_0 += n3_k[1 + i0 * 2] * d_t0[1 + i0 * 6 + i1 * 2];
      out_d_n2[i0 * 3 + i1] = narrow(sum0_0);
    }
  }
}
