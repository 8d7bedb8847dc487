
// Each block takes its samples through all steps.
extern "C" __global__ void __launch_bounds__(64, 8)
forward(const stored* __restrict__ all_x0, const stored* __restrict__ n0, const stored* __restrict__ n1, const stored* __restrict__ n2, const stored* __restrict__ n3, stored* __restrict__ all_out_y, entry* __restrict__ workspace, long long batch, int blocks) {
  extern __shared__ __align__(16) char memory[];
  entry* const block = (entry*)memory;
  entry* const n0_s = block + 0;
  entry* const n1_s = block + 16;
  entry* const n2_s = block + 32;
  entry* const n3_s = block + 48;
  entry* const x0_s = block + 64;
  entry* const t3 = block + 592;
  // n0 into shared memory
  if (const int p = threadIdx.x; p < 16) {
    const int i0 = p;
    n0_s[i0] = wide(n0[i0]);
  }
  // n1 into shared memory
  if (const int p = (int)threadIdx.x - 16; 0 <= p && p < 16) {
    const int i0 = p;
    n1_s[i0] = wide(n1[i0]);
  }
  // n2 into shared memory
  if (const int p = (int)threadIdx.x - 32; 0 <= p && p < 16) {
    const int i0 = p;
    n2_s[i0] = wide(n2[i0]);
  }
  // n3 into shared memory
  if (const int p = (int)threadIdx.x - 48; 0 <= p && p < 16) {
    const int i0 = p;
    n3_s[i0] = wide(n3[i0]);
  }
  for (long long first = (long long)blockIdx.x * 16; first < batch; first += (long long)gridDim.x * 16) {
    const stored* const x0 = all_x0 + first * 32;
    stored* const out_y = all_out_y + first * 32;
    // x0 into shared memory
    __syncthreads();
    #pragma unroll
    for (int turn = 0; turn < 2; turn++) { const int p = threadIdx.x + turn * 64;
      const int sample = p / 8; const int i1 = p % 8;
      const bool present = first + sample < batch;
      { const auto run = load<4>(&x0[sample * 32 + i1 * 4], present);
        x0_s[sample * 33 + i1 * 4] = wide(run.v[0]);
        x0_s[1 + sample * 33 + i1 * 4] = wide(run.v[1]);
        x0_s[2 + sample * 33 + i1 * 4] = wide(run.v[2]);
        x0_s[3 + sample * 33 + i1 * 4] = wide(run.v[3]); }
    }
    // segment 0 forward: t0, t1, t2, t3
    __syncthreads();
    if (const int p = threadIdx.x; p < 16) {
      const int sample = p;
      entry f0_x0[32];
      entry f0_t0[32];
      entry f0_t1[32];
      entry f0_t2[32];
      entry f0_t3[32];
      f0_x0[0] = x0_s[sample * 33];
      f0_x0[1] = x0_s[1 + sample * 33];
      f0_x0[2] = x0_s[2 + sample * 33];
      f0_x0[3] = x0_s[3 + sample * 33];
      f0_x0[4] = x0_s[4 + sample * 33];
      f0_x0[5] = x0_s[5 + sample * 33];
      f0_x0[6] = x0_s[6 + sample * 33];
      f0_x0[7] = x0_s[7 + sample * 33];
      f0_x0[8] = x0_s[8 + sample * 33];
      f0_x0[9] = x0_s[9 + sample * 33];
      f0_x0[10] = x0_s[10 + sample * 33];
      f0_x0[11] = x0_s[11 + sample * 33];
      f0_x0[12] = x0_s[12 + sample * 33];
      f0_x0[13] = x0_s[13 + sample * 33];
      f0_x0[14] = x0_s[14 + sample * 33];
      f0_x0[15] = x0_s[15 + sample * 33];
      f0_x0[16] = x0_s[16 + sample * 33];
      f0_x0[17] = x0_s[17 + sample * 33];
      f0_x0[18] = x0_s[18 + sample * 33];
      f0_x0[19] = x0_s[19 + sample * 33];
      f0_x0[20] = x0_s[20 + sample * 33];
      f0_x0[21] = x0_s[21 + sample * 33];
      f0_x0[22] = x0_s[22 + sample * 33];
      f0_x0[23] = x0_s[23 + sample * 33];
      f0_x0[24] = x0_s[24 + sample * 33];
      f0_x0[25] = x0_s[25 + sample * 33];
      f0_x0[26] = x0_s[26 + sample * 33];
      f0_x0[27] = x0_s[27 + sample * 33];
      f0_x0[28] = x0_s[28 + sample * 33];
      f0_x0[29] = x0_s[29 + sample * 33];
      f0_x0[30] = x0_s[30 + sample * 33];
      f0_x0[31] = x0_s[31 + sample * 33];
      f0_t0[0] = n1_s[0] * f0_x0[0] + n1_s[4] * f0_x0[2] + n1_s[8] * f0_x0[4] + n1_s[12] * f0_x0[6];
      f0_t0[2] = n1_s[1] * f0_x0[0] + n1_s[5] * f0_x0[2] + n1_s[9] * f0_x0[4] + n1_s[13] * f0_x0[6];
      f0_t0[4] = n1_s[2] * f0_x0[0] + n1_s[6] * f0_x0[2] + n1_s[10] * f0_x0[4] + n1_s[14] * f0_x0[6];
      f0_t0[6] = n1_s[3] * f0_x0[0] + n1_s[7] * f0_x0[2] + n1_s[11] * f0_x0[4] + n1_s[15] * f0_x0[6];
      f0_t0[1] = n1_s[0] * f0_x0[1] + n1_s[4] * f0_x0[3] + n1_s[8] * f0_x0[5] + n1_s[12] * f0_x0[7];
      f0_t0[3] = n1_s[1] * f0_x0[1] + n1_s[5] * f0_x0[3] + n1_s[9] * f0_x0[5] + n1_s[13] * f0_x0[7];
      f0_t0[5] = n1_s[2] * f0_x0[1] + n1_s[6] * f0_x0[3] + n1_s[10] * f0_x0[5] + n1_s[14] * f0_x0[7];
      f0_t0[7] = n1_s[3] * f0_x0[1] + n1_s[7] * f0_x0[3] + n1_s[11] * f0_x0[5] + n1_s[15] * f0_x0[7];
      f0_t0[8] = n1_s[0] * f0_x0[8] + n1_s[4] * f0_x0[10] + n1_s[8] * f0_x0[12] + n1_s[12] * f0_x0[14];
      f0_t0[10] = n1_s[1] * f0_x0[8] + n1_s[5] * f0_x0[10] + n1_s[9] * f0_x0[12] + n1_s[13] * f0_x0[14];
      f0_t0[12] = n1_s[2] * f0_x0[8] + n1_s[6] * f0_x0[10] + n1_s[10] * f0_x0[12] + n1_s[14] * f0_x0[14];
      f0_t0[14] = n1_s[3] * f0_x0[8] + n1_s[7] * f0_x0[10] + n1_s[11] * f0_x0[12] + n1_s[15] * f0_x0[14];
      f0_t0[9] = n1_s[0] * f0_x0[9] + n1_s[4] * f0_x0[11] + n1_s[8] * f0_x0[13] + n1_s[12] * f0_x0[15];
      f0_t0[11] = n1_s[1] * f0_x0[9] + n1_s[5] * f0_x0[11] + n1_s[9] * f0_x0[13] + n1_s[13] * f0_x0[15];
      f0_t0[13] = n1_s[2] * f0_x0[9] + n1_s[6] * f0_x0[11] + n1_s[10] * f0_x0[13] + n1_s[14] * f0_x0[15];
      f0_t0[15] = n1_s[3] * f0_x0[9] + n1_s[7] * f0_x0[11] + n1_s[11] * f0_x0[13] + n1_s[15] * f0_x0[15];
      f0_t0[16] = n1_s[0] * f0_x0[16] + n1_s[4] * f0_x0[18] + n1_s[8] * f0_x0[20] + n1_s[12] * f0_x0[22];
      f0_t0[18] = n1_s[1] * f0_x0[16] + n1_s[5] * f0_x0[18] + n1_s[9] * f0_x0[20] + n1_s[13] * f0_x0[22];
      f0_t0[20] = n1_s[2] * f0_x0[16] + n1_s[6] * f0_x0[18] + n1_s[10] * f0_x0[20] + n1_s[14] * f0_x0[22];
      f0_t0[22] = n1_s[3] * f0_x0[16] + n1_s[7] * f0_x0[18] + n1_s[11] * f0_x0[20] + n1_s[15] * f0_x0[22];
      f0_t0[17] = n1_s[0] * f0_x0[17] + n1_s[4] * f0_x0[19] + n1_s[8] * f0_x0[21] + n1_s[12] * f0_x0[23];
      f0_t0[19] = n1_s[1] * f0_x0[17] + n1_s[5] * f0_x0[19] + n1_s[9] * f0_x0[21] + n1_s[13] * f0_x0[23];
      f0_t0[21] = n1_s[2] * f0_x0[17] + n1_s[6] * f0_x0[19] + n1_s[10] * f0_x0[21] + n1_s[14] * f0_x0[23];
      f0_t0[23] = n1_s[3] * f0_x0[17] + n1_s[7] * f0_x0[19] + n1_s[11] * f0_x0[21] + n1_s[15] * f0_x0[23];
      f0_t0[24] = n1_s[0] * f0_x0[24] + n1_s[4] * f0_x0[26] + n1_s[8] * f0_x0[28] + n1_s[12] * f0_x0[30];
      f0_t0[26] = n1_s[1] * f0_x0[24] + n1_s[5] * f0_x0[26] + n1_s[9] * f0_x0[28] + n1_s[13] * f0_x0[30];
      f0_t0[28] = n1_s[2] * f0_x0[24] + n1_s[6] * f0_x0[26] + n1_s[10] * f0_x0[28] + n1_s[14] * f0_x0[30];
      f0_t0[30] = n1_s[3] * f0_x0[24] + n1_s[7] * f0_x0[26] + n1_s[11] * f0_x0[28] + n1_s[15] * f0_x0[30];
      f0_t0[25] = n1_s[0] * f0_x0[25] + n1_s[4] * f0_x0[27] + n1_s[8] * f0_x0[29] + n1_s[12] * f0_x0[31];
      f0_t0[27] = n1_s[1] * f0_x0[25] + n1_s[5] * f0_x0[27] + n1_s[9] * f0_x0[29] + n1_s[13] * f0_x0[31];
      f0_t0[29] = n1_s[2] * f0_x0[25] + n1_s[6] * f0_x0[27] + n1_s[10] * f0_x0[29] + n1_s[14] * f0_x0[31];
      f0_t0[31] = n1_s[3] * f0_x0[25] + n1_s[7] * f0_x0[27] + n1_s[11] * f0_x0[29] + n1_s[15] * f0_x0[31];
      f0_t1[0] = n0_s[0] * f0_t0[0] + n0_s[4] * f0_t0[8] + n0_s[8] * f0_t0[16] + n0_s[12] * f0_t0[24];
      f0_t1[8] = n0_s[1] * f0_t0[0] + n0_s[5] * f0_t0[8] + n0_s[9] * f0_t0[16] + n0_s[13] * f0_t0[24];
      f0_t1[16] = n0_s[2] * f0_t0[0] + n0_s[6] * f0_t0[8] + n0_s[10] * f0_t0[16] + n0_s[14] * f0_t0[24];
      f0_t1[24] = n0_s[3] * f0_t0[0] + n0_s[7] * f0_t0[8] + n0_s[11] * f0_t0[16] + n0_s[15] * f0_t0[24];
      f0_t1[1] = n0_s[0] * f0_t0[1] + n0_s[4] * f0_t0[9] + n0_s[8] * f0_t0[17] + n0_s[12] * f0_t0[25];
      f0_t1[9] = n0_s[1] * f0_t0[1] + n0_s[5] * f0_t0[9] + n0_s[9] * f0_t0[17] + n0_s[13] * f0_t0[25];
      f0_t1[17] = n0_s[2] * f0_t0[1] + n0_s[6] * f0_t0[9] + n0_s[10] * f0_t0[17] + n0_s[14] * f0_t0[25];
      f0_t1[25] = n0_s[3] * f0_t0[1] + n0_s[7] * f0_t0[9] + n0_s[11] * f0_t0[17] + n0_s[15] * f0_t0[25];
      f0_t1[2] = n0_s[0] * f0_t0[2] + n0_s[4] * f0_t0[10] + n0_s[8] * f0_t0[18] + n0_s[12] * f0_t0[26];
      f0_t1[10] = n0_s[1] * f0_t0[2] + n0_s[5] * f0_t0[10] + n0_s[9] * f0_t0[18] + n0_s[13] * f0_t0[26];
      f0_t1[18] = n0_s[2] * f0_t0[2] + n0_s[6] * f0_t0[10] + n0_s[10] * f0_t0[18] + n0_s[14] * f0_t0[26];
      f0_t1[26] = n0_s[3] * f0_t0[2] + n0_s[7] * f0_t0[10] + n0_s[11] * f0_t0[18] + n0_s[15] * f0_t0[26];
      f0_t1[3] = n0_s[0] * f0_t0[3] + n0_s[4] * f0_t0[11] + n0_s[8] * f0_t0[19] + n0_s[12] * f0_t0[27];
      f0_t1[11] = n0_s[1] * f0_t0[3] + n0_s[5] * f0_t0[11] + n0_s[9] * f0_t0[19] + n0_s[13] * f0_t0[27];
      f0_t1[19] = n0_s[2] * f0_t0[3] + n0_s[6] * f0_t0[11] + n0_s[10] * f0_t0[19] + n0_s[14] * f0_t0[27];
      f0_t1[27] = n0_s[3] * f0_t0[3] + n0_s[7] * f0_t0[11] + n0_s[11] * f0_t0[19] + n0_s[15] * f0_t0[27];
      f0_t1[4] = n0_s[0] * f0_t0[4] + n0_s[4] * f0_t0[12] + n0_s[8] * f0_t0[20] + n0_s[12] * f0_t0[28];
      f0_t1[12] = n0_s[1] * f0_t0[4] + n0_s[5] * f0_t0[12] + n0_s[9] * f0_t0[20] + n0_s[13] * f0_t0[28];
      f0_t1[20] = n0_s[2] * f0_t0[4] + n0_s[6] * f0_t0[12] + n0_s[10] * f0_t0[20] + n0_s[14] * f0_t0[28];
      f0_t1[28] = n0_s[3] * f0_t0[4] + n0_s[7] * f0_t0[12] + n0_s[11] * f0_t0[20] + n0_s[15] * f0_t0[28];
      f0_t1[5] = n0_s[0] * f0_t0[5] + n0_s[4] * f0_t0[13] + n0_s[8] * f0_t0[21] + n0_s[12] * f0_t0[29];
      f0_t1[13] = n0_s[1] * f0_t0[5] + n0_s[5] * f0_t0[13] + n0_s[9] * f0_t0[21] + n0_s[13] * f0_t0[29];
      f0_t1[21] = n0_s[2] * f0_t0[5] + n0_s[6] * f0_t0[13] + n0_s[10] * f0_t0[21] + n0_s[14] * f0_t0[29];
      f0_t1[29] = n0_s[3] * f0_t0[5] + n0_s[7] * f0_t0[13] + n0_s[11] * f0_t0[21] + n0_s[15] * f0_t0[29];
      f0_t1[6] = n0_s[0] * f0_t0[6] + n0_s[4] * f0_t0[14] + n0_s[8] * f0_t0[22] + n0_s[12] * f0_t0[30];
      f0_t1[14] = n0_s[1] * f0_t0[6] + n0_s[5] * f0_t0[14] + n0_s[9] * f0_t0[22] + n0_s[13] * f0_t0[30];
      f0_t1[22] = n0_s[2] * f0_t0[6] + n0_s[6] * f0_t0[14] + n0_s[10] * f0_t0[22] + n0_s[14] * f0_t0[30];
      f0_t1[30] = n0_s[3] * f0_t0[6] + n0_s[7] * f0_t0[14] + n0_s[11] * f0_t0[22] + n0_s[15] * f0_t0[30];
      f0_t1[7] = n0_s[0] * f0_t0[7] + n0_s[4] * f0_t0[15] + n0_s[8] * f0_t0[23] + n0_s[12] * f0_t0[31];
      f0_t1[15] = n0_s[1] * f0_t0[7] + n0_s[5] * f0_t0[15] + n0_s[9] * f0_t0[23] + n0_s[13] * f0_t0[31];
      f0_t1[23] = n0_s[2] * f0_t0[7] + n0_s[6] * f0_t0[15] + n0_s[10] * f0_t0[23] + n0_s[14] * f0_t0[31];
      f0_t1[31] = n0_s[3] * f0_t0[7] + n0_s[7] * f0_t0[15] + n0_s[11] * f0_t0[23] + n0_s[15] * f0_t0[31];
      f0_t2[0] = n3_s[0] * f0_t1[0] + n3_s[4] * f0_t1[4] + n3_s[8] * f0_t1[8] + n3_s[12] * f0_t1[12];
      f0_t2[4] = n3_s[1] * f0_t1[0] + n3_s[5] * f0_t1[4] + n3_s[9] * f0_t1[8] + n3_s[13] * f0_t1[12];
      f0_t2[8] = n3_s[2] * f0_t1[0] + n3_s[6] * f0_t1[4] + n3_s[10] * f0_t1[8] + n3_s[14] * f0_t1[12];
      f0_t2[12] = n3_s[3] * f0_t1[0] + n3_s[7] * f0_t1[4] + n3_s[11] * f0_t1[8] + n3_s[15] * f0_t1[12];
      f0_t2[1] = n3_s[0] * f0_t1[1] + n3_s[4] * f0_t1[5] + n3_s[8] * f0_t1[9] + n3_s[12] * f0_t1[13];
      f0_t2[5] = n3_s[1] * f0_t1[1] + n3_s[5] * f0_t1[5] + n3_s[9] * f0_t1[9] + n3_s[13] * f0_t1[13];
      f0_t2[9] = n3_s[2] * f0_t1[1] + n3_s[6] * f0_t1[5] + n3_s[10] * f0_t1[9] + n3_s[14] * f0_t1[13];
      f0_t2[13] = n3_s[3] * f0_t1[1] + n3_s[7] * f0_t1[5] + n3_s[11] * f0_t1[9] + n3_s[15] * f0_t1[13];
      f0_t2[2] = n3_s[0] * f0_t1[2] + n3_s[4] * f0_t1[6] + n3_s[8] * f0_t1[10] + n3_s[12] * f0_t1[14];
      f0_t2[6] = n3_s[1] * f0_t1[2] + n3_s[5] * f0_t1[6] + n3_s[9] * f0_t1[10] + n3_s[13] * f0_t1[14];
      f0_t2[10] = n3_s[2] * f0_t1[2] + n3_s[6] * f0_t1[6] + n3_s[10] * f0_t1[10] + n3_s[14] * f0_t1[14];
      f0_t2[14] = n3_s[3] * f0_t1[2] + n3_s[7] * f0_t1[6] + n3_s[11] * f0_t1[10] + n3_s[15] * f0_t1[14];
      f0_t2[3] = n3_s[0] * f0_t1[3] + n3_s[4] * f0_t1[7] + n3_s[8] * f0_t1[11] + n3_s[12] * f0_t1[15];
      f0_t2[7] = n3_s[1] * f0_t1[3] + n3_s[5] * f0_t1[7] + n3_s[9] * f0_t1[11] + n3_s[13] * f0_t1[15];
      f0_t2[11] = n3_s[2] * f0_t1[3] + n3_s[6] * f0_t1[7] + n3_s[10] * f0_t1[11] + n3_s[14] * f0_t1[15];
      f0_t2[15] = n3_s[3] * f0_t1[3] + n3_s[7] * f0_t1[7] + n3_s[11] * f0_t1[11] + n3_s[15] * f0_t1[15];
      f0_t2[16] = n3_s[0] * f0_t1[16] + n3_s[4] * f0_t1[20] + n3_s[8] * f0_t1[24] + n3_s[12] * f0_t1[28];
      f0_t2[20] = n3_s[1] * f0_t1[16] + n3_s[5] * f0_t1[20] + n3_s[9] * f0_t1[24] + n3_s[13] * f0_t1[28];
      f0_t2[24] = n3_s[2] * f0_t1[16] + n3_s[6] * f0_t1[20] + n3_s[10] * f0_t1[24] + n3_s[14] * f0_t1[28];
      f0_t2[28] = n3_s[3] * f0_t1[16] + n3_s[7] * f0_t1[20] + n3_s[11] * f0_t1[24] + n3_s[15] * f0_t1[28];
      f0_t2[17] = n3_s[0] * f0_t1[17] + n3_s[4] * f0_t1[21] + n3_s[8] * f0_t1[25] + n3_s[12] * f0_t1[29];
      f0_t2[21] = n3_s[1] * f0_t1[17] + n3_s[5] * f0_t1[21] + n3_s[9] * f0_t1[25] + n3_s[13] * f0_t1[29];
      f0_t2[25] = n3_s[2] * f0_t1[17] + n3_s[6] * f0_t1[21] + n3_s[10] * f0_t1[25] + n3_s[14] * f0_t1[29];
      f0_t2[29] = n3_s[3] * f0_t1[17] + n3_s[7] * f0_t1[21] + n3_s[11] * f0_t1[25] + n3_s[15] * f0_t1[29];
      f0_t2[18] = n3_s[0] * f0_t1[18] + n3_s[4] * f0_t1[22] + n3_s[8] * f0_t1[26] + n3_s[12] * f0_t1[30];
      f0_t2[22] = n3_s[1] * f0_t1[18] + n3_s[5] * f0_t1[22] + n3_s[9] * f0_t1[26] + n3_s[13] * f0_t1[30];
      f0_t2[26] = n3_s[2] * f0_t1[18] + n3_s[6] * f0_t1[22] + n3_s[10] * f0_t1[26] + n3_s[14] * f0_t1[30];
      f0_t2[30] = n3_s[3] * f0_t1[18] + n3_s[7] * f0_t1[22] + n3_s[11] * f0_t1[26] + n3_s[15] * f0_t1[30];
      f0_t2[19] = n3_s[0] * f0_t1[19] + n3_s[4] * f0_t1[23] + n3_s[8] * f0_t1[27] + n3_s[12] * f0_t1[31];
      f0_t2[23] = n3_s[1] * f0_t1[19] + n3_s[5] * f0_t1[23] + n3_s[9] * f0_t1[27] + n3_s[13] * f0_t1[31];
      f0_t2[27] = n3_s[2] * f0_t1[19] + n3_s[6] * f0_t1[23] + n3_s[10] * f0_t1[27] + n3_s[14] * f0_t1[31];
      f0_t2[31] = n3_s[3] * f0_t1[19] + n3_s[7] * f0_t1[23] + n3_s[11] * f0_t1[27] + n3_s[15] * f0_t1[31];
      f0_t3[0] = n2_s[0] * f0_t2[0] + n2_s[4] * f0_t2[1] + n2_s[8] * f0_t2[2] + n2_s[12] * f0_t2[3];
      f0_t3[1] = n2_s[1] * f0_t2[0] + n2_s[5] * f0_t2[1] + n2_s[9] * f0_t2[2] + n2_s[13] * f0_t2[3];
      f0_t3[2] = n2_s[2] * f0_t2[0] + n2_s[6] * f0_t2[1] + n2_s[10] * f0_t2[2] + n2_s[14] * f0_t2[3];
      f0_t3[3] = n2_s[3] * f0_t2[0] + n2_s[7] * f0_t2[1] + n2_s[11] * f0_t2[2] + n2_s[15] * f0_t2[3];
      f0_t3[4] = n2_s[0] * f0_t2[4] + n2_s[4] * f0_t2[5] + n2_s[8] * f0_t2[6] + n2_s[12] * f0_t2[7];
      f0_t3[5] = n2_s[1] * f0_t2[4] + n2_s[5] * f0_t2[5] + n2_s[9] * f0_t2[6] + n2_s[13] * f0_t2[7];
      f0_t3[6] = n2_s[2] * f0_t2[4] + n2_s[6] * f0_t2[5] + n2_s[10] * f0_t2[6] + n2_s[14] * f0_t2[7];
      f0_t3[7] = n2_s[3] * f0_t2[4] + n2_s[7] * f0_t2[5] + n2_s[11] * f0_t2[6] + n2_s[15] * f0_t2[7];
      f0_t3[8] = n2_s[0] * f0_t2[8] + n2_s[4] * f0_t2[9] + n2_s[8] * f0_t2[10] + n2_s[12] * f0_t2[11];
      f0_t3[9] = n2_s[1] * f0_t2[8] + n2_s[5] * f0_t2[9] + n2_s[9] * f0_t2[10] + n2_s[13] * f0_t2[11];
      f0_t3[10] = n2_s[2] * f0_t2[8] + n2_s[6] * f0_t2[9] + n2_s[10] * f0_t2[10] + n2_s[14] * f0_t2[11];
      f0_t3[11] = n2_s[3] * f0_t2[8] + n2_s[7] * f0_t2[9] + n2_s[11] * f0_t2[10] + n2_s[15] * f0_t2[11];
      f0_t3[12] = n2_s[0] * f0_t2[12] + n2_s[4] * f0_t2[13] + n2_s[8] * f0_t2[14] + n2_s[12] * f0_t2[15];
      f0_t3[13] = n2_s[1] * f0_t2[12] + n2_s[5] * f0_t2[13] + n2_s[9] * f0_t2[14] + n2_s[13] * f0_t2[15];
      f0_t3[14] = n2_s[2] * f0_t2[12] + n2_s[6] * f0_t2[13] + n2_s[10] * f0_t2[14] + n2_s[14] * f0_t2[15];
      f0_t3[15] = n2_s[3] * f0_t2[12] + n2_s[7] * f0_t2[13] + n2_s[11] * f0_t2[14] + n2_s[15] * f0_t2[15];
      f0_t3[16] = n2_s[0] * f0_t2[16] + n2_s[4] * f0_t2[17] + n2_s[8] * f0_t2[18] + n2_s[12] * f0_t2[19];
      f0_t3[17] = n2_s[1] * f0_t2[16] + n2_s[5] * f0_t2[17] + n2_s[9] * f0_t2[18] + n2_s[13] * f0_t2[19];
      f0_t3[18] = n2_s[2] * f0_t2[16] + n2_s[6] * f0_t2[17] + n2_s[10] * f0_t2[18] + n2_s[14] * f0_t2[19];
      f0_t3[19] = n2_s[3] * f0_t2[16] + n2_s[7] * f0_t2[17] + n2_s[11] * f0_t2[18] + n2_s[15] * f0_t2[19];
      f0_t3[20] = n2_s[0] * f0_t2[20] + n2_s[4] * f0_t2[21] + n2_s[8] * f0_t2[22] + n2_s[12] * f0_t2[23];
      f0_t3[21] = n2_s[1] * f0_t2[20] + n2_s[5] * f0_t2[21] + n2_s[9] * f0_t2[22] + n2_s[13] * f0_t2[23];
      f0_t3[22] = n2_s[2] * f0_t2[20] + n2_s[6] * f0_t2[21] + n2_s[10] * f0_t2[22] + n2_s[14] * f0_t2[23];
      f0_t3[23] = n2_s[3] * f0_t2[20] + n2_s[7] * f0_t2[21] + n2_s[11] * f0_t2[22] + n2_s[15] * f0_t2[23];
      f0_t3[24] = n2_s[0] * f0_t2[24] + n2_s[4] * f0_t2[25] + n2_s[8] * f0_t2[26] + n2_s[12] * f0_t2[27];
      f0_t3[25] = n2_s[1] * f0_t2[24] + n2_s[5] * f0_t2[25] + n2_s[9] * f0_t2[26] + n2_s[13] * f0_t2[27];
      f0_t3[26] = n2_s[2] * f0_t2[24] + n2_s[6] * f0_t2[25] + n2_s[10] * f0_t2[26] + n2_s[14] * f0_t2[27];
      f0_t3[27] = n2_s[3] * f0_t2[24] + n2_s[7] * f0_t2[25] + n2_s[11] * f0_t2[26] + n2_s[15] * f0_t2[27];
      f0_t3[28] = n2_s[0] * f0_t2[28] + n2_s[4] * f0_t2[29] + n2_s[8] * f0_t2[30] + n2_s[12] * f0_t2[31];
      f0_t3[29] = n2_s[1] * f0_t2[28] + n2_s[5] * f0_t2[29] + n2_s[9] * f0_t2[30] + n2_s[13] * f0_t2[31];
      f0_t3[30] = n2_s[2] * f0_t2[28] + n2_s[6] * f0_t2[29] + n2_s[10] * f0_t2[30] + n2_s[14] * f0_t2[31];
      f0_t3[31] = n2_s[3] * f0_t2[28] + n2_s[7] * f0_t2[29] + n2_s[11] * f0_t2[30] + n2_s[15] * f0_t2[31];
      {
        const entry sum0_0 = f0_t3[0], sum1_0 = f0_t3[1], sum2_0 = f0_t3[2], sum3_0 = f0_t3[3], sum4_0 = f0_t3[4], sum5_0 = f0_t3[5], sum6_0 = f0_t3[6], sum7_0 = f0_t3[7], sum8_0 = f0_t3[8], sum9_0 = f0_t3[9], sum10_0 = f0_t3[10], sum11_0 = f0_t3[11], sum12_0 = f0_t3[12], sum13_0 = f0_t3[13], sum14_0 = f0_t3[14], sum15_0 = f0_t3[15], sum16_0 = f0_t3[16], sum17_0 = f0_t3[17], sum18_0 = f0_t3[18], sum19_0 = f0_t3[19], sum20_0 = f0_t3[20], sum21_0 = f0_t3[21], sum22_0 = f0_t3[22], sum23_0 = f0_t3[23], sum24_0 = f0_t3[24], sum25_0 = f0_t3[25], sum26_0 = f0_t3[26], sum27_0 = f0_t3[27], sum28_0 = f0_t3[28], sum29_0 = f0_t3[29], sum30_0 = f0_t3[30], sum31_0 = f0_t3[31];
        t3[sample * 33] = sum0_0;
        t3[1 + sample * 33] = sum1_0;
        t3[2 + sample * 33] = sum2_0;
        t3[3 + sample * 33] = sum3_0;
        t3[4 + sample * 33] = sum4_0;
        t3[5 + sample * 33] = sum5_0;
        t3[6 + sample * 33] = sum6_0;
        t3[7 + sample * 33] = sum7_0;
        t3[8 + sample * 33] = sum8_0;
        t3[9 + sample * 33] = sum9_0;
        t3[10 + sample * 33] = sum10_0;
        t3[11 + sample * 33] = sum11_0;
        t3[12 + sample * 33] = sum12_0;
        t3[13 + sample * 33] = sum13_0;
        t3[14 + sample * 33] = sum14_0;
        t3[15 + sample * 33] = sum15_0;
        t3[16 + sample * 33] = sum16_0;
        t3[17 + sample * 33] = sum17_0;
        t3[18 + sample * 33] = sum18_0;
        t3[19 + sample * 33] = sum19_0;
        t3[20 + sample * 33] = sum20_0;
        t3[21 + sample * 33] = sum21_0;
        t3[22 + sample * 33] = sum22_0;
        t3[23 + sample * 33] = sum23_0;
        t3[24 + sample * 33] = sum24_0;
        t3[25 + sample * 33] = sum25_0;
        t3[26 + sample * 33] = sum26_0;
        t3[27 + sample * 33] = sum27_0;
        t3[28 + sample * 33] = sum28_0;
        t3[29 + sample * 33] = sum29_0;
        t3[30 + sample * 33] = sum30_0;
        t3[31 + sample * 33] = sum31_0;
      }
    }
    // y leaves
    __syncthreads();
    #pragma unroll
    for (int turn = 0; turn < 2; turn++) { const int p = threadIdx.x + turn * 64;
      const int sample = p / 8; const int i1 = p % 8;
      const bool present = first + sample < batch;
      { together<4> run;
        run.v[0] = narrow(t3[sample * 33 + i1 * 4]);
        run.v[1] = narrow(t3[1 + sample * 33 + i1 * 4]);
        run.v[2] = narrow(t3[2 + sample * 33 + i1 * 4]);
        run.v[3] = narrow(t3[3 + sample * 33 + i1 * 4]);
        if (present) store(&out_y[sample * 32 + i1 * 4], run); }
    }
  }
}


// Each block takes its samples through all steps.
extern "C" __global__ void __launch_bounds__(128, 4)
backward(const stored* __restrict__ all_g, const stored* __restrict__ all_x0, const stored* __restrict__ n0, const stored* __restrict__ n1, const stored* __restrict__ n2, const stored* __restrict__ n3, stored* __restrict__ all_out_d_x0, stored* __restrict__ out_d_n0, stored* __restrict__ out_d_n1, stored* __restrict__ out_d_n2, stored* __restrict__ out_d_n3, entry* __restrict__ workspace, long long batch, int blocks) {
  extern __shared__ __align__(16) char memory[];
  entry* const block = (entry*)memory;
  entry* const row = workspace + 0 + (long long)blockIdx.x * 64;
  entry* const n0_s = block + 256;
  entry* const n1_s = block + 272;
  entry* const n2_s = block + 288;
  entry* const n3_s = block + 304;
  entry* const x0_s = block + 320;
  entry* const t2 = block + 848;
  entry* const d_n2_p = block + 128;
  for (int p = threadIdx.x; p < 64; p += 128) d_n2_p[p] = entry{};
  entry* const d_n3_p = block + 192;
  if (const int p = (int)threadIdx.x - 64; 0 <= p && p < 64) d_n3_p[p] = entry{};
  entry* const d_n0_p = block + 0;
  for (int p = threadIdx.x; p < 64; p += 128) d_n0_p[p] = entry{};
  entry* const d_n1_p = block + 64;
  if (const int p = (int)threadIdx.x - 64; 0 <= p && p < 64) d_n1_p[p] = entry{};
  __syncthreads();
  // n0 into shared memory
  if (const int p = threadIdx.x; p < 16) {
    const int i0 = p;
    n0_s[i0] = wide(n0[i0]);
  }
  // n1 into shared memory
  if (const int p = (int)threadIdx.x - 16; 0 <= p && p < 16) {
    const int i0 = p;
    n1_s[i0] = wide(n1[i0]);
  }
  // n2 into shared memory
  if (const int p = (int)threadIdx.x - 32; 0 <= p && p < 16) {
    const int i0 = p;
    n2_s[i0] = wide(n2[i0]);
  }
  // n3 into shared memory
  if (const int p = (int)threadIdx.x - 48; 0 <= p && p < 16) {
    const int i0 = p;
    n3_s[i0] = wide(n3[i0]);
  }
  for (long long first = (long long)blockIdx.x * 16; first < batch; first += (long long)gridDim.x * 16) {
    const stored* const g = all_g + first * 32;
    const stored* const x0 = all_x0 + first * 32;
    stored* const out_d_x0 = all_out_d_x0 + first * 32;
    // x0 into shared memory
    __syncthreads();
    { const int p = threadIdx.x;
      const int sample = p / 8; const int i1 = p % 8;
      const bool present = first + sample < batch;
      { const auto run = load<4>(&x0[sample * 32 + i1 * 4], present);
        x0_s[sample * 33 + i1 * 4] = wide(run.v[0]);
        x0_s[1 + sample * 33 + i1 * 4] = wide(run.v[1]);
        x0_s[2 + sample * 33 + i1 * 4] = wide(run.v[2]);
        x0_s[3 + sample * 33 + i1 * 4] = wide(run.v[3]); }
    }
    // segment 0 forward: t0, t1, t2
    __syncthreads();
    if (const int p = threadIdx.x; p < 32) {
      const int sample = p / 2; const int i1 = p % 2;
      entry f0_x0[16];
      entry f0_t0[16];
      entry f0_t1[16];
      entry f0_t2[16];
      f0_x0[0] = x0_s[sample * 33 + i1];
      f0_x0[1] = x0_s[2 + sample * 33 + i1];
      f0_x0[2] = x0_s[4 + sample * 33 + i1];
      f0_x0[3] = x0_s[6 + sample * 33 + i1];
      f0_x0[4] = x0_s[8 + sample * 33 + i1];
      f0_x0[5] = x0_s[10 + sample * 33 + i1];
      f0_x0[6] = x0_s[12 + sample * 33 + i1];
      f0_x0[7] = x0_s[14 + sample * 33 + i1];
      f0_x0[8] = x0_s[16 + sample * 33 + i1];
      f0_x0[9] = x0_s[18 + sample * 33 + i1];
      f0_x0[10] = x0_s[20 + sample * 33 + i1];
      f0_x0[11] = x0_s[22 + sample * 33 + i1];
      f0_x0[12] = x0_s[24 + sample * 33 + i1];
      f0_x0[13] = x0_s[26 + sample * 33 + i1];
      f0_x0[14] = x0_s[28 + sample * 33 + i1];
      f0_x0[15] = x0_s[30 + sample * 33 + i1];
      f0_t0[0] = n1_s[0] * f0_x0[0] + n1_s[4] * f0_x0[1] + n1_s[8] * f0_x0[2] + n1_s[12] * f0_x0[3];
      f0_t0[1] = n1_s[1] * f0_x0[0] + n1_s[5] * f0_x0[1] + n1_s[9] * f0_x0[2] + n1_s[13] * f0_x0[3];
      f0_t0[2] = n1_s[2] * f0_x0[0] + n1_s[6] * f0_x0[1] + n1_s[10] * f0_x0[2] + n1_s[14] * f0_x0[3];
      f0_t0[3] = n1_s[3] * f0_x0[0] + n1_s[7] * f0_x0[1] + n1_s[11] * f0_x0[2] + n1_s[15] * f0_x0[3];
      f0_t0[4] = n1_s[0] * f0_x0[4] + n1_s[4] * f0_x0[5] + n1_s[8] * f0_x0[6] + n1_s[12] * f0_x0[7];
      f0_t0[5] = n1_s[1] * f0_x0[4] + n1_s[5] * f0_x0[5] + n1_s[9] * f0_x0[6] + n1_s[13] * f0_x0[7];
      f0_t0[6] = n1_s[2] * f0_x0[4] + n1_s[6] * f0_x0[5] + n1_s[10] * f0_x0[6] + n1_s[14] * f0_x0[7];
      f0_t0[7] = n1_s[3] * f0_x0[4] + n1_s[7] * f0_x0[5] + n1_s[11] * f0_x0[6] + n1_s[15] * f0_x0[7];
      f0_t0[8] = n1_s[0] * f0_x0[8] + n1_s[4] * f0_x0[9] + n1_s[8] * f0_x0[10] + n1_s[12] * f0_x0[11];
      f0_t0[9] = n1_s[1] * f0_x0[8] + n1_s[5] * f0_x0[9] + n1_s[9] * f0_x0[10] + n1_s[13] * f0_x0[11];
      f0_t0[10] = n1_s[2] * f0_x0[8] + n1_s[6] * f0_x0[9] + n1_s[10] * f0_x0[10] + n1_s[14] * f0_x0[11];
      f0_t0[11] = n1_s[3] * f0_x0[8] + n1_s[7] * f0_x0[9] + n1_s[11] * f0_x0[10] + n1_s[15] * f0_x0[11];
      f0_t0[12] = n1_s[0] * f0_x0[12] + n1_s[4] * f0_x0[13] + n1_s[8] * f0_x0[14] + n1_s[12] * f0_x0[15];
      f0_t0[13] = n1_s[1] * f0_x0[12] + n1_s[5] * f0_x0[13] + n1_s[9] * f0_x0[14] + n1_s[13] * f0_x0[15];
      f0_t0[14] = n1_s[2] * f0_x0[12] + n1_s[6] * f0_x0[13] + n1_s[10] * f0_x0[14] + n1_s[14] * f0_x0[15];
      f0_t0[15] = n1_s[3] * f0_x0[12] + n1_s[7] * f0_x0[13] + n1_s[11] * f0_x0[14] + n1_s[15] * f0_x0[15];
      f0_t1[0] = n0_s[0] * f0_t0[0] + n0_s[4] * f0_t0[4] + n0_s[8] * f0_t0[8] + n0_s[12] * f0_t0[12];
      f0_t1[4] = n0_s[1] * f0_t0[0] + n0_s[5] * f0_t0[4] + n0_s[9] * f0_t0[8] + n0_s[13] * f0_t0[12];
      f0_t1[8] = n0_s[2] * f0_t0[0] + n0_s[6] * f0_t0[4] + n0_s[10] * f0_t0[8] + n0_s[14] * f0_t0[12];
      f0_t1[12] = n0_s[3] * f0_t0[0] + n0_s[7] * f0_t0[4] + n0_s[11] * f0_t0[8] + n0_s[15] * f0_t0[12];
      f0_t1[1] = n0_s[0] * f0_t0[1] + n0_s[4] * f0_t0[5] + n0_s[8] * f0_t0[9] + n0_s[12] * f0_t0[13];
      f0_t1[5] = n0_s[1] * f0_t0[1] + n0_s[5] * f0_t0[5] + n0_s[9] * f0_t0[9] + n0_s[13] * f0_t0[13];
      f0_t1[9] = n0_s[2] * f0_t0[1] + n0_s[6] * f0_t0[5] + n0_s[10] * f0_t0[9] + n0_s[14] * f0_t0[13];
      f0_t1[13] = n0_s[3] * f0_t0[1] + n0_s[7] * f0_t0[5] + n0_s[11] * f0_t0[9] + n0_s[15] * f0_t0[13];
      f0_t1[2] = n0_s[0] * f0_t0[2] + n0_s[4] * f0_t0[6] + n0_s[8] * f0_t0[10] + n0_s[12] * f0_t0[14];
      f0_t1[6] = n0_s[1] * f0_t0[2] + n0_s[5] * f0_t0[6] + n0_s[9] * f0_t0[10] + n0_s[13] * f0_t0[14];
      f0_t1[10] = n0_s[2] * f0_t0[2] + n0_s[6] * f0_t0[6] + n0_s[10] * f0_t0[10] + n0_s[14] * f0_t0[14];
      f0_t1[14] = n0_s[3] * f0_t0[2] + n0_s[7] * f0_t0[6] + n0_s[11] * f0_t0[10] + n0_s[15] * f0_t0[14];
      f0_t1[3] = n0_s[0] * f0_t0[3] + n0_s[4] * f0_t0[7] + n0_s[8] * f0_t0[11] + n0_s[12] * f0_t0[15];
      f0_t1[7] = n0_s[1] * f0_t0[3] + n0_s[5] * f0_t0[7] + n0_s[9] * f0_t0[11] + n0_s[13] * f0_t0[15];
      f0_t1[11] = n0_s[2] * f0_t0[3] + n0_s[6] * f0_t0[7] + n0_s[10] * f0_t0[11] + n0_s[14] * f0_t0[15];
      f0_t1[15] = n0_s[3] * f0_t0[3] + n0_s[7] * f0_t0[7] + n0_s[11] * f0_t0[11] + n0_s[15] * f0_t0[15];
      f0_t2[0] = n3_s[0] * f0_t1[0] + n3_s[4] * f0_t1[2] + n3_s[8] * f0_t1[4] + n3_s[12] * f0_t1[6];
      f0_t2[2] = n3_s[1] * f0_t1[0] + n3_s[5] * f0_t1[2] + n3_s[9] * f0_t1[4] + n3_s[13] * f0_t1[6];
      f0_t2[4] = n3_s[2] * f0_t1[0] + n3_s[6] * f0_t1[2] + n3_s[10] * f0_t1[4] + n3_s[14] * f0_t1[6];
      f0_t2[6] = n3_s[3] * f0_t1[0] + n3_s[7] * f0_t1[2] + n3_s[11] * f0_t1[4] + n3_s[15] * f0_t1[6];
      f0_t2[1] = n3_s[0] * f0_t1[1] + n3_s[4] * f0_t1[3] + n3_s[8] * f0_t1[5] + n3_s[12] * f0_t1[7];
      f0_t2[3] = n3_s[1] * f0_t1[1] + n3_s[5] * f0_t1[3] + n3_s[9] * f0_t1[5] + n3_s[13] * f0_t1[7];
      f0_t2[5] = n3_s[2] * f0_t1[1] + n3_s[6] * f0_t1[3] + n3_s[10] * f0_t1[5] + n3_s[14] * f0_t1[7];
      f0_t2[7] = n3_s[3] * f0_t1[1] + n3_s[7] * f0_t1[3] + n3_s[11] * f0_t1[5] + n3_s[15] * f0_t1[7];
      f0_t2[8] = n3_s[0] * f0_t1[8] + n3_s[4] * f0_t1[10] + n3_s[8] * f0_t1[12] + n3_s[12] * f0_t1[14];
      f0_t2[10] = n3_s[1] * f0_t1[8] + n3_s[5] * f0_t1[10] + n3_s[9] * f0_t1[12] + n3_s[13] * f0_t1[14];
      f0_t2[12] = n3_s[2] * f0_t1[8] + n3_s[6] * f0_t1[10] + n3_s[10] * f0_t1[12] + n3_s[14] * f0_t1[14];
      f0_t2[14] = n3_s[3] * f0_t1[8] + n3_s[7] * f0_t1[10] + n3_s[11] * f0_t1[12] + n3_s[15] * f0_t1[14];
      f0_t2[9] = n3_s[0] * f0_t1[9] + n3_s[4] * f0_t1[11] + n3_s[8] * f0_t1[13] + n3_s[12] * f0_t1[15];
      f0_t2[11] = n3_s[1] * f0_t1[9] + n3_s[5] * f0_t1[11] + n3_s[9] * f0_t1[13] + n3_s[13] * f0_t1[15];
      f0_t2[13] = n3_s[2] * f0_t1[9] + n3_s[6] * f0_t1[11] + n3_s[10] * f0_t1[13] + n3_s[14] * f0_t1[15];
      f0_t2[15] = n3_s[3] * f0_t1[9] + n3_s[7] * f0_t1[11] + n3_s[11] * f0_t1[13] + n3_s[15] * f0_t1[15];
      {
        const entry sum0_0 = f0_t2[0], sum1_0 = f0_t2[1], sum2_0 = f0_t2[2], sum3_0 = f0_t2[3], sum4_0 = f0_t2[4], sum5_0 = f0_t2[5], sum6_0 = f0_t2[6], sum7_0 = f0_t2[7], sum8_0 = f0_t2[8], sum9_0 = f0_t2[9], sum10_0 = f0_t2[10], sum11_0 = f0_t2[11], sum12_0 = f0_t2[12], sum13_0 = f0_t2[13], sum14_0 = f0_t2[14], sum15_0 = f0_t2[15];
        t2[sample * 33 + i1] = sum0_0;
        t2[2 + sample * 33 + i1] = sum1_0;
        t2[4 + sample * 33 + i1] = sum2_0;
        t2[6 + sample * 33 + i1] = sum3_0;
        t2[8 + sample * 33 + i1] = sum4_0;
        t2[10 + sample * 33 + i1] = sum5_0;
        t2[12 + sample * 33 + i1] = sum6_0;
        t2[14 + sample * 33 + i1] = sum7_0;
        t2[16 + sample * 33 + i1] = sum8_0;
        t2[18 + sample * 33 + i1] = sum9_0;
        t2[20 + sample * 33 + i1] = sum10_0;
        t2[22 + sample * 33 + i1] = sum11_0;
        t2[24 + sample * 33 + i1] = sum12_0;
        t2[26 + sample * 33 + i1] = sum13_0;
        t2[28 + sample * 33 + i1] = sum14_0;
        t2[30 + sample * 33 + i1] = sum15_0;
      }
    }
    // segment 1 reverse: d_n2, d_t2
    __syncthreads();
    { const int p = threadIdx.x;
      const int sample = p / 8; const int i1 = p % 8;
      const bool present = first + sample < batch;
      entry r1_g[4];
      entry r1_t2[4];
      entry r1_d_n2[16];
      entry r1_d_t2[4];
      { const auto run = load<4>(&g[sample * 32 + i1 * 4], present);
        r1_g[0] = wide(run.v[0]);
        r1_g[1] = wide(run.v[1]);
        r1_g[2] = wide(run.v[2]);
        r1_g[3] = wide(run.v[3]); }
      r1_t2[0] = t2[sample * 33 + i1 * 4];
      r1_t2[1] = t2[1 + sample * 33 + i1 * 4];
      r1_t2[2] = t2[2 + sample * 33 + i1 * 4];
      r1_t2[3] = t2[3 + sample * 33 + i1 * 4];
      r1_d_n2[0] = r1_t2[0] * r1_g[0];
      r1_d_n2[4] = r1_t2[1] * r1_g[0];
      r1_d_n2[8] = r1_t2[2] * r1_g[0];
      r1_d_n2[12] = r1_t2[3] * r1_g[0];
      r1_d_n2[1] = r1_t2[0] * r1_g[1];
      r1_d_n2[5] = r1_t2[1] * r1_g[1];
      r1_d_n2[9] = r1_t2[2] * r1_g[1];
      r1_d_n2[13] = r1_t2[3] * r1_g[1];
      r1_d_n2[2] = r1_t2[0] * r1_g[2];
      r1_d_n2[6] = r1_t2[1] * r1_g[2];
      r1_d_n2[10] = r1_t2[2] * r1_g[2];
      r1_d_n2[14] = r1_t2[3] * r1_g[2];
      r1_d_n2[3] = r1_t2[0] * r1_g[3];
      r1_d_n2[7] = r1_t2[1] * r1_g[3];
      r1_d_n2[11] = r1_t2[2] * r1_g[3];
      r1_d_n2[15] = r1_t2[3] * r1_g[3];
      if (!present) for (int k = 0; k < 16; k++) r1_d_n2[k] = entry{};
      sum_warp<16, 0>(d_n2_p + threadIdx.x / 32 * 16, r1_d_n2);
      r1_d_t2[0] = n2_s[0] * r1_g[0] + n2_s[1] * r1_g[1] + n2_s[2] * r1_g[2] + n2_s[3] * r1_g[3];
      r1_d_t2[1] = n2_s[4] * r1_g[0] + n2_s[5] * r1_g[1] + n2_s[6] * r1_g[2] + n2_s[7] * r1_g[3];
      r1_d_t2[2] = n2_s[8] * r1_g[0] + n2_s[9] * r1_g[1] + n2_s[10] * r1_g[2] + n2_s[11] * r1_g[3];
      r1_d_t2[3] = n2_s[12] * r1_g[0] + n2_s[13] * r1_g[1] + n2_s[14] * r1_g[2] + n2_s[15] * r1_g[3];
      {
        const entry sum0_0 = r1_d_t2[0], sum1_0 = r1_d_t2[1], sum2_0 = r1_d_t2[2], sum3_0 = r1_d_t2[3];
        t2[sample * 33 + i1 * 4] = sum0_0;
        t2[1 + sample * 33 + i1 * 4] = sum1_0;
        t2[2 + sample * 33 + i1 * 4] = sum2_0;
        t2[3 + sample * 33 + i1 * 4] = sum3_0;
      }
    }
    // segment 0 reverse: t0, t1, d_n3, d_t1, d_n0, d_t0, d_n1, d_x0
    __syncthreads();
    if (const int p = threadIdx.x; __any_sync(0xffffffffu, p < 32)) {
      const int sample = p / 2; const int i1 = p % 2;
      const bool present = first + sample < batch;
      entry r0_x0[16];
      entry r0_t0[16];
      entry r0_t1[16];
      entry r0_d_t2[16];
      entry r0_d_n3[16];
      entry r0_d_t1[16];
      entry r0_d_n0[16];
      entry r0_d_t0[16];
      entry r0_d_n1[16];
      entry r0_d_x0[16];
      r0_x0[0] = x0_s[sample * 33 + i1];
      r0_x0[1] = x0_s[2 + sample * 33 + i1];
      r0_x0[2] = x0_s[4 + sample * 33 + i1];
      r0_x0[3] = x0_s[6 + sample * 33 + i1];
      r0_x0[4] = x0_s[8 + sample * 33 + i1];
      r0_x0[5] = x0_s[10 + sample * 33 + i1];
      r0_x0[6] = x0_s[12 + sample * 33 + i1];
      r0_x0[7] = x0_s[14 + sample * 33 + i1];
      r0_x0[8] = x0_s[16 + sample * 33 + i1];
      r0_x0[9] = x0_s[18 + sample * 33 + i1];
      r0_x0[10] = x0_s[20 + sample * 33 + i1];
      r0_x0[11] = x0_s[22 + sample * 33 + i1];
      r0_x0[12] = x0_s[24 + sample * 33 + i1];
      r0_x0[13] = x0_s[26 + sample * 33 + i1];
      r0_x0[14] = x0_s[28 + sample * 33 + i1];
      r0_x0[15] = x0_s[30 + sample * 33 + i1];
      r0_t0[0] = n1_s[0] * r0_x0[0] + n1_s[4] * r0_x0[1] + n1_s[8] * r0_x0[2] + n1_s[12] * r0_x0[3];
      r0_t0[1] = n1_s[1] * r0_x0[0] + n1_s[5] * r0_x0[1] + n1_s[9] * r0_x0[2] + n1_s[13] * r0_x0[3];
      r0_t0[2] = n1_s[2] * r0_x0[0] + n1_s[6] * r0_x0[1] + n1_s[10] * r0_x0[2] + n1_s[14] * r0_x0[3];
      r0_t0[3] = n1_s[3] * r0_x0[0] + n1_s[7] * r0_x0[1] + n1_s[11] * r0_x0[2] + n1_s[15] * r0_x0[3];
      r0_t0[4] = n1_s[0] * r0_x0[4] + n1_s[4] * r0_x0[5] + n1_s[8] * r0_x0[6] + n1_s[12] * r0_x0[7];
      r0_t0[5] = n1_s[1] * r0_x0[4] + n1_s[5] * r0_x0[5] + n1_s[9] * r0_x0[6] + n1_s[13] * r0_x0[7];
      r0_t0[6] = n1_s[2] * r0_x0[4] + n1_s[6] * r0_x0[5] + n1_s[10] * r0_x0[6] + n1_s[14] * r0_x0[7];
      r0_t0[7] = n1_s[3] * r0_x0[4] + n1_s[7] * r0_x0[5] + n1_s[11] * r0_x0[6] + n1_s[15] * r0_x0[7];
      r0_t0[8] = n1_s[0] * r0_x0[8] + n1_s[4] * r0_x0[9] + n1_s[8] * r0_x0[10] + n1_s[12] * r0_x0[11];
      r0_t0[9] = n1_s[1] * r0_x0[8] + n1_s[5] * r0_x0[9] + n1_s[9] * r0_x0[10] + n1_s[13] * r0_x0[11];
      r0_t0[10] = n1_s[2] * r0_x0[8] + n1_s[6] * r0_x0[9] + n1_s[10] * r0_x0[10] + n1_s[14] * r0_x0[11];
      r0_t0[11] = n1_s[3] * r0_x0[8] + n1_s[7] * r0_x0[9] + n1_s[11] * r0_x0[10] + n1_s[15] * r0_x0[11];
      r0_t0[12] = n1_s[0] * r0_x0[12] + n1_s[4] * r0_x0[13] + n1_s[8] * r0_x0[14] + n1_s[12] * r0_x0[15];
      r0_t0[13] = n1_s[1] * r0_x0[12] + n1_s[5] * r0_x0[13] + n1_s[9] * r0_x0[14] + n1_s[13] * r0_x0[15];
      r0_t0[14] = n1_s[2] * r0_x0[12] + n1_s[6] * r0_x0[13] + n1_s[10] * r0_x0[14] + n1_s[14] * r0_x0[15];
      r0_t0[15] = n1_s[3] * r0_x0[12] + n1_s[7] * r0_x0[13] + n1_s[11] * r0_x0[14] + n1_s[15] * r0_x0[15];
      r0_t1[0] = n0_s[0] * r0_t0[0] + n0_s[4] * r0_t0[4] + n0_s[8] * r0_t0[8] + n0_s[12] * r0_t0[12];
      r0_t1[4] = n0_s[1] * r0_t0[0] + n0_s[5] * r0_t0[4] + n0_s[9] * r0_t0[8] + n0_s[13] * r0_t0[12];
      r0_t1[8] = n0_s[2] * r0_t0[0] + n0_s[6] * r0_t0[4] + n0_s[10] * r0_t0[8] + n0_s[14] * r0_t0[12];
      r0_t1[12] = n0_s[3] * r0_t0[0] + n0_s[7] * r0_t0[4] + n0_s[11] * r0_t0[8] + n0_s[15] * r0_t0[12];
      r0_t1[1] = n0_s[0] * r0_t0[1] + n0_s[4] * r0_t0[5] + n0_s[8] * r0_t0[9] + n0_s[12] * r0_t0[13];
      r0_t1[5] = n0_s[1] * r0_t0[1] + n0_s[5] * r0_t0[5] + n0_s[9] * r0_t0[9] + n0_s[13] * r0_t0[13];
      r0_t1[9] = n0_s[2] * r0_t0[1] + n0_s[6] * r0_t0[5] + n0_s[10] * r0_t0[9] + n0_s[14] * r0_t0[13];
      r0_t1[13] = n0_s[3] * r0_t0[1] + n0_s[7] * r0_t0[5] + n0_s[11] * r0_t0[9] + n0_s[15] * r0_t0[13];
      r0_t1[2] = n0_s[0] * r0_t0[2] + n0_s[4] * r0_t0[6] + n0_s[8] * r0_t0[10] + n0_s[12] * r0_t0[14];
      r0_t1[6] = n0_s[1] * r0_t0[2] + n0_s[5] * r0_t0[6] + n0_s[9] * r0_t0[10] + n0_s[13] * r0_t0[14];
      r0_t1[10] = n0_s[2] * r0_t0[2] + n0_s[6] * r0_t0[6] + n0_s[10] * r0_t0[10] + n0_s[14] * r0_t0[14];
      r0_t1[14] = n0_s[3] * r0_t0[2] + n0_s[7] * r0_t0[6] + n0_s[11] * r0_t0[10] + n0_s[15] * r0_t0[14];
      r0_t1[3] = n0_s[0] * r0_t0[3] + n0_s[4] * r0_t0[7] + n0_s[8] * r0_t0[11] + n0_s[12] * r0_t0[15];
      r0_t1[7] = n0_s[1] * r0_t0[3] + n0_s[5] * r0_t0[7] + n0_s[9] * r0_t0[11] + n0_s[13] * r0_t0[15];
      r0_t1[11] = n0_s[2] * r0_t0[3] + n0_s[6] * r0_t0[7] + n0_s[10] * r0_t0[11] + n0_s[14] * r0_t0[15];
      r0_t1[15] = n0_s[3] * r0_t0[3] + n0_s[7] * r0_t0[7] + n0_s[11] * r0_t0[11] + n0_s[15] * r0_t0[15];
      r0_d_t2[0] = t2[sample * 33 + i1];
      r0_d_t2[1] = t2[2 + sample * 33 + i1];
      r0_d_t2[2] = t2[4 + sample * 33 + i1];
      r0_d_t2[3] = t2[6 + sample * 33 + i1];
      r0_d_t2[4] = t2[8 + sample * 33 + i1];
      r0_d_t2[5] = t2[10 + sample * 33 + i1];
      r0_d_t2[6] = t2[12 + sample * 33 + i1];
      r0_d_t2[7] = t2[14 + sample * 33 + i1];
      r0_d_t2[8] = t2[16 + sample * 33 + i1];
      r0_d_t2[9] = t2[18 + sample * 33 + i1];
      r0_d_t2[10] = t2[20 + sample * 33 + i1];
      r0_d_t2[11] = t2[22 + sample * 33 + i1];
      r0_d_t2[12] = t2[24 + sample * 33 + i1];
      r0_d_t2[13] = t2[26 + sample * 33 + i1];
      r0_d_t2[14] = t2[28 + sample * 33 + i1];
      r0_d_t2[15] = t2[30 + sample * 33 + i1];
      r0_d_n3[0] = r0_t1[0] * r0_d_t2[0] + r0_t1[1] * r0_d_t2[1] + r0_t1[8] * r0_d_t2[8] + r0_t1[9] * r0_d_t2[9];
      r0_d_n3[4] = r0_t1[2] * r0_d_t2[0] + r0_t1[3] * r0_d_t2[1] + r0_t1[10] * r0_d_t2[8] + r0_t1[11] * r0_d_t2[9];
      r0_d_n3[8] = r0_t1[4] * r0_d_t2[0] + r0_t1[5] * r0_d_t2[1] + r0_t1[12] * r0_d_t2[8] + r0_t1[13] * r0_d_t2[9];
      r0_d_n3[12] = r0_t1[6] * r0_d_t2[0] + r0_t1[7] * r0_d_t2[1] + r0_t1[14] * r0_d_t2[8] + r0_t1[15] * r0_d_t2[9];
      r0_d_n3[1] = r0_t1[0] * r0_d_t2[2] + r0_t1[1] * r0_d_t2[3] + r0_t1[8] * r0_d_t2[10] + r0_t1[9] * r0_d_t2[11];
      r0_d_n3[5] = r0_t1[2] * r0_d_t2[2] + r0_t1[3] * r0_d_t2[3] + r0_t1[10] * r0_d_t2[10] + r0_t1[11] * r0_d_t2[11];
      r0_d_n3[9] = r0_t1[4] * r0_d_t2[2] + r0_t1[5] * r0_d_t2[3] + r0_t1[12] * r0_d_t2[10] + r0_t1[13] * r0_d_t2[11];
      r0_d_n3[13] = r0_t1[6] * r0_d_t2[2] + r0_t1[7] * r0_d_t2[3] + r0_t1[14] * r0_d_t2[10] + r0_t1[15] * r0_d_t2[11];
      r0_d_n3[2] = r0_t1[0] * r0_d_t2[4] + r0_t1[1] * r0_d_t2[5] + r0_t1[8] * r0_d_t2[12] + r0_t1[9] * r0_d_t2[13];
      r0_d_n3[6] = r0_t1[2] * r0_d_t2[4] + r0_t1[3] * r0_d_t2[5] + r0_t1[10] * r0_d_t2[12] + r0_t1[11] * r0_d_t2[13];
      r0_d_n3[10] = r0_t1[4] * r0_d_t2[4] + r0_t1[5] * r0_d_t2[5] + r0_t1[12] * r0_d_t2[12] + r0_t1[13] * r0_d_t2[13];
      r0_d_n3[14] = r0_t1[6] * r0_d_t2[4] + r0_t1[7] * r0_d_t2[5] + r0_t1[14] * r0_d_t2[12] + r0_t1[15] * r0_d_t2[13];
      r0_d_n3[3] = r0_t1[0] * r0_d_t2[6] + r0_t1[1] * r0_d_t2[7] + r0_t1[8] * r0_d_t2[14] + r0_t1[9] * r0_d_t2[15];
      r0_d_n3[7] = r0_t1[2] * r0_d_t2[6] + r0_t1[3] * r0_d_t2[7] + r0_t1[10] * r0_d_t2[14] + r0_t1[11] * r0_d_t2[15];
      r0_d_n3[11] = r0_t1[4] * r0_d_t2[6] + r0_t1[5] * r0_d_t2[7] + r0_t1[12] * r0_d_t2[14] + r0_t1[13] * r0_d_t2[15];
      r0_d_n3[15] = r0_t1[6] * r0_d_t2[6] + r0_t1[7] * r0_d_t2[7] + r0_t1[14] * r0_d_t2[14] + r0_t1[15] * r0_d_t2[15];
      if (!present) for (int k = 0; k < 16; k++) r0_d_n3[k] = entry{};
      sum_warp<16, 0>(d_n3_p + threadIdx.x / 32 * 16, r0_d_n3);
      r0_d_t1[0] = n3_s[0] * r0_d_t2[0] + n3_s[1] * r0_d_t2[2] + n3_s[2] * r0_d_t2[4] + n3_s[3] * r0_d_t2[6];
      r0_d_t1[2] = n3_s[4] * r0_d_t2[0] + n3_s[5] * r0_d_t2[2] + n3_s[6] * r0_d_t2[4] + n3_s[7] * r0_d_t2[6];
      r0_d_t1[4] = n3_s[8] * r0_d_t2[0] + n3_s[9] * r0_d_t2[2] + n3_s[10] * r0_d_t2[4] + n3_s[11] * r0_d_t2[6];
      r0_d_t1[6] = n3_s[12] * r0_d_t2[0] + n3_s[13] * r0_d_t2[2] + n3_s[14] * r0_d_t2[4] + n3_s[15] * r0_d_t2[6];
      r0_d_t1[1] = n3_s[0] * r0_d_t2[1] + n3_s[1] * r0_d_t2[3] + n3_s[2] * r0_d_t2[5] + n3_s[3] * r0_d_t2[7];
      r0_d_t1[3] = n3_s[4] * r0_d_t2[1] + n3_s[5] * r0_d_t2[3] + n3_s[6] * r0_d_t2[5] + n3_s[7] * r0_d_t2[7];
      r0_d_t1[5] = n3_s[8] * r0_d_t2[1] + n3_s[9] * r0_d_t2[3] + n3_s[10] * r0_d_t2[5] + n3_s[11] * r0_d_t2[7];
      r0_d_t1[7] = n3_s[12] * r0_d_t2[1] + n3_s[13] * r0_d_t2[3] + n3_s[14] * r0_d_t2[5] + n3_s[15] * r0_d_t2[7];
      r0_d_t1[8] = n3_s[0] * r0_d_t2[8] + n3_s[1] * r0_d_t2[10] + n3_s[2] * r0_d_t2[12] + n3_s[3] * r0_d_t2[14];
      r0_d_t1[10] = n3_s[4] * r0_d_t2[8] + n3_s[5] * r0_d_t2[10] + n3_s[6] * r0_d_t2[12] + n3_s[7] * r0_d_t2[14];
      r0_d_t1[12] = n3_s[8] * r0_d_t2[8] + n3_s[9] * r0_d_t2[10] + n3_s[10] * r0_d_t2[12] + n3_s[11] * r0_d_t2[14];
      r0_d_t1[14] = n3_s[12] * r0_d_t2[8] + n3_s[13] * r0_d_t2[10] + n3_s[14] * r0_d_t2[12] + n3_s[15] * r0_d_t2[14];
      r0_d_t1[9] = n3_s[0] * r0_d_t2[9] + n3_s[1] * r0_d_t2[11] + n3_s[2] * r0_d_t2[13] + n3_s[3] * r0_d_t2[15];
      r0_d_t1[11] = n3_s[4] * r0_d_t2[9] + n3_s[5] * r0_d_t2[11] + n3_s[6] * r0_d_t2[13] + n3_s[7] * r0_d_t2[15];
      r0_d_t1[13] = n3_s[8] * r0_d_t2[9] + n3_s[9] * r0_d_t2[11] + n3_s[10] * r0_d_t2[13] + n3_s[11] * r0_d_t2[15];
      r0_d_t1[15] = n3_s[12] * r0_d_t2[9] + n3_s[13] * r0_d_t2[11] + n3_s[14] * r0_d_t2[13] + n3_s[15] * r0_d_t2[15];
      r0_d_n0[0] = r0_t0[0] * r0_d_t1[0] + r0_t0[1] * r0_d_t1[1] + r0_t0[2] * r0_d_t1[2] + r0_t0[3] * r0_d_t1[3];
      r0_d_n0[4] = r0_t0[4] * r0_d_t1[0] + r0_t0[5] * r0_d_t1[1] + r0_t0[6] * r0_d_t1[2] + r0_t0[7] * r0_d_t1[3];
      r0_d_n0[8] = r0_t0[8] * r0_d_t1[0] + r0_t0[9] * r0_d_t1[1] + r0_t0[10] * r0_d_t1[2] + r0_t0[11] * r0_d_t1[3];
      r0_d_n0[12] = r0_t0[12] * r0_d_t1[0] + r0_t0[13] * r0_d_t1[1] + r0_t0[14] * r0_d_t1[2] + r0_t0[15] * r0_d_t1[3];
      r0_d_n0[1] = r0_t0[0] * r0_d_t1[4] + r0_t0[1] * r0_d_t1[5] + r0_t0[2] * r0_d_t1[6] + r0_t0[3] * r0_d_t1[7];
      r0_d_n0[5] = r0_t0[4] * r0_d_t1[4] + r0_t0[5] * r0_d_t1[5] + r0_t0[6] * r0_d_t1[6] + r0_t0[7] * r0_d_t1[7];
      r0_d_n0[9] = r0_t0[8] * r0_d_t1[4] + r0_t0[9] * r0_d_t1[5] + r0_t0[10] * r0_d_t1[6] + r0_t0[11] * r0_d_t1[7];
      r0_d_n0[13] = r0_t0[12] * r0_d_t1[4] + r0_t0[13] * r0_d_t1[5] + r0_t0[14] * r0_d_t1[6] + r0_t0[15] * r0_d_t1[7];
      r0_d_n0[2] = r0_t0[0] * r0_d_t1[8] + r0_t0[1] * r0_d_t1[9] + r0_t0[2] * r0_d_t1[10] + r0_t0[3] * r0_d_t1[11];
      r0_d_n0[6] = r0_t0[4] * r0_d_t1[8] + r0_t0[5] * r0_d_t1[9] + r0_t0[6] * r0_d_t1[10] + r0_t0[7] * r0_d_t1[11];
      r0_d_n0[10] = r0_t0[8] * r0_d_t1[8] + r0_t0[9] * r0_d_t1[9] + r0_t0[10] * r0_d_t1[10] + r0_t0[11] * r0_d_t1[11];
      r0_d_n0[14] = r0_t0[12] * r0_d_t1[8] + r0_t0[13] * r0_d_t1[9] + r0_t0[14] * r0_d_t1[10] + r0_t0[15] * r0_d_t1[11];
      r0_d_n0[3] = r0_t0[0] * r0_d_t1[12] + r0_t0[1] * r0_d_t1[13] + r0_t0[2] * r0_d_t1[14] + r0_t0[3] * r0_d_t1[15];
      r0_d_n0[7] = r0_t0[4] * r0_d_t1[12] + r0_t0[5] * r0_d_t1[13] + r0_t0[6] * r0_d_t1[14] + r0_t0[7] * r0_d_t1[15];
      r0_d_n0[11] = r0_t0[8] * r0_d_t1[12] + r0_t0[9] * r0_d_t1[13] + r0_t0[10] * r0_d_t1[14] + r0_t0[11] * r0_d_t1[15];
      r0_d_n0[15] = r0_t0[12] * r0_d_t1[12] + r0_t0[13] * r0_d_t1[13] + r0_t0[14] * r0_d_t1[14] + r0_t0[15] * r0_d_t1[15];
      if (!present) for (int k = 0; k < 16; k++) r0_d_n0[k] = entry{};
      sum_warp<16, 0>(d_n0_p + threadIdx.x / 32 * 16, r0_d_n0);
      r0_d_t0[0] = n0_s[0] * r0_d_t1[0] + n0_s[1] * r0_d_t1[4] + n0_s[2] * r0_d_t1[8] + n0_s[3] * r0_d_t1[12];
      r0_d_t0[4] = n0_s[4] * r0_d_t1[0] + n0_s[5] * r0_d_t1[4] + n0_s[6] * r0_d_t1[8] + n0_s[7] * r0_d_t1[12];
      r0_d_t0[8] = n0_s[8] * r0_d_t1[0] + n0_s[9] * r0_d_t1[4] + n0_s[10] * r0_d_t1[8] + n0_s[11] * r0_d_t1[12];
      r0_d_t0[12] = n0_s[12] * r0_d_t1[0] + n0_s[13] * r0_d_t1[4] + n0_s[14] * r0_d_t1[8] + n0_s[15] * r0_d_t1[12];
      r0_d_t0[1] = n0_s[0] * r0_d_t1[1] + n0_s[1] * r0_d_t1[5] + n0_s[2] * r0_d_t1[9] + n0_s[3] * r0_d_t1[13];
      r0_d_t0[5] = n0_s[4] * r0_d_t1[1] + n0_s[5] * r0_d_t1[5] + n0_s[6] * r0_d_t1[9] + n0_s[7] * r0_d_t1[13];
      r0_d_t0[9] = n0_s[8] * r0_d_t1[1] + n0_s[9] * r0_d_t1[5] + n0_s[10] * r0_d_t1[9] + n0_s[11] * r0_d_t1[13];
      r0_d_t0[13] = n0_s[12] * r0_d_t1[1] + n0_s[13] * r0_d_t1[5] + n0_s[14] * r0_d_t1[9] + n0_s[15] * r0_d_t1[13];
      r0_d_t0[2] = n0_s[0] * r0_d_t1[2] + n0_s[1] * r0_d_t1[6] + n0_s[2] * r0_d_t1[10] + n0_s[3] * r0_d_t1[14];
      r0_d_t0[6] = n0_s[4] * r0_d_t1[2] + n0_s[5] * r0_d_t1[6] + n0_s[6] * r0_d_t1[10] + n0_s[7] * r0_d_t1[14];
      r0_d_t0[10] = n0_s[8] * r0_d_t1[2] + n0_s[9] * r0_d_t1[6] + n0_s[10] * r0_d_t1[10] + n0_s[11] * r0_d_t1[14];
      r0_d_t0[14] = n0_s[12] * r0_d_t1[2] + n0_s[13] * r0_d_t1[6] + n0_s[14] * r0_d_t1[10] + n0_s[15] * r0_d_t1[14];
      r0_d_t0[3] = n0_s[0] * r0_d_t1[3] + n0_s[1] * r0_d_t1[7] + n0_s[2] * r0_d_t1[11] + n0_s[3] * r0_d_t1[15];
      r0_d_t0[7] = n0_s[4] * r0_d_t1[3] + n0_s[5] * r0_d_t1[7] + n0_s[6] * r0_d_t1[11] + n0_s[7] * r0_d_t1[15];
      r0_d_t0[11] = n0_s[8] * r0_d_t1[3] + n0_s[9] * r0_d_t1[7] + n0_s[10] * r0_d_t1[11] + n0_s[11] * r0_d_t1[15];
      r0_d_t0[15] = n0_s[12] * r0_d_t1[3] + n0_s[13] * r0_d_t1[7] + n0_s[14] * r0_d_t1[11] + n0_s[15] * r0_d_t1[15];
      r0_d_n1[0] = r0_x0[0] * r0_d_t0[0] + r0_x0[4] * r0_d_t0[4] + r0_x0[8] * r0_d_t0[8] + r0_x0[12] * r0_d_t0[12];
      r0_d_n1[4] = r0_x0[1] * r0_d_t0[0] + r0_x0[5] * r0_d_t0[4] + r0_x0[9] * r0_d_t0[8] + r0_x0[13] * r0_d_t0[12];
      r0_d_n1[8] = r0_x0[2] * r0_d_t0[0] + r0_x0[6] * r0_d_t0[4] + r0_x0[10] * r0_d_t0[8] + r0_x0[14] * r0_d_t0[12];
      r0_d_n1[12] = r0_x0[3] * r0_d_t0[0] + r0_x0[7] * r0_d_t0[4] + r0_x0[11] * r0_d_t0[8] + r0_x0[15] * r0_d_t0[12];
      r0_d_n1[1] = r0_x0[0] * r0_d_t0[1] + r0_x0[4] * r0_d_t0[5] + r0_x0[8] * r0_d_t0[9] + r0_x0[12] * r0_d_t0[13];
      r0_d_n1[5] = r0_x0[1] * r0_d_t0[1] + r0_x0[5] * r0_d_t0[5] + r0_x0[9] * r0_d_t0[9] + r0_x0[13] * r0_d_t0[13];
      r0_d_n1[9] = r0_x0[2] * r0_d_t0[1] + r0_x0[6] * r0_d_t0[5] + r0_x0[10] * r0_d_t0[9] + r0_x0[14] * r0_d_t0[13];
      r0_d_n1[13] = r0_x0[3] * r0_d_t0[1] + r0_x0[7] * r0_d_t0[5] + r0_x0[11] * r0_d_t0[9] + r0_x0[15] * r0_d_t0[13];
      r0_d_n1[2] = r0_x0[0] * r0_d_t0[2] + r0_x0[4] * r0_d_t0[6] + r0_x0[8] * r0_d_t0[10] + r0_x0[12] * r0_d_t0[14];
      r0_d_n1[6] = r0_x0[1] * r0_d_t0[2] + r0_x0[5] * r0_d_t0[6] + r0_x0[9] * r0_d_t0[10] + r0_x0[13] * r0_d_t0[14];
      r0_d_n1[10] = r0_x0[2] * r0_d_t0[2] + r0_x0[6] * r0_d_t0[6] + r0_x0[10] * r0_d_t0[10] + r0_x0[14] * r0_d_t0[14];
      r0_d_n1[14] = r0_x0[3] * r0_d_t0[2] + r0_x0[7] * r0_d_t0[6] + r0_x0[11] * r0_d_t0[10] + r0_x0[15] * r0_d_t0[14];
      r0_d_n1[3] = r0_x0[0] * r0_d_t0[3] + r0_x0[4] * r0_d_t0[7] + r0_x0[8] * r0_d_t0[11] + r0_x0[12] * r0_d_t0[15];
      r0_d_n1[7] = r0_x0[1] * r0_d_t0[3] + r0_x0[5] * r0_d_t0[7] + r0_x0[9] * r0_d_t0[11] + r0_x0[13] * r0_d_t0[15];
      r0_d_n1[11] = r0_x0[2] * r0_d_t0[3] + r0_x0[6] * r0_d_t0[7] + r0_x0[10] * r0_d_t0[11] + r0_x0[14] * r0_d_t0[15];
      r0_d_n1[15] = r0_x0[3] * r0_d_t0[3] + r0_x0[7] * r0_d_t0[7] + r0_x0[11] * r0_d_t0[11] + r0_x0[15] * r0_d_t0[15];
      if (!present) for (int k = 0; k < 16; k++) r0_d_n1[k] = entry{};
      sum_warp<16, 0>(d_n1_p + threadIdx.x / 32 * 16, r0_d_n1);
      r0_d_x0[0] = n1_s[0] * r0_d_t0[0] + n1_s[1] * r0_d_t0[1] + n1_s[2] * r0_d_t0[2] + n1_s[3] * r0_d_t0[3];
      r0_d_x0[1] = n1_s[4] * r0_d_t0[0] + n1_s[5] * r0_d_t0[1] + n1_s[6] * r0_d_t0[2] + n1_s[7] * r0_d_t0[3];
      r0_d_x0[2] = n1_s[8] * r0_d_t0[0] + n1_s[9] * r0_d_t0[1] + n1_s[10] * r0_d_t0[2] + n1_s[11] * r0_d_t0[3];
      r0_d_x0[3] = n1_s[12] * r0_d_t0[0] + n1_s[13] * r0_d_t0[1] + n1_s[14] * r0_d_t0[2] + n1_s[15] * r0_d_t0[3];
      r0_d_x0[4] = n1_s[0] * r0_d_t0[4] + n1_s[1] * r0_d_t0[5] + n1_s[2] * r0_d_t0[6] + n1_s[3] * r0_d_t0[7];
      r0_d_x0[5] = n1_s[4] * r0_d_t0[4] + n1_s[5] * r0_d_t0[5] + n1_s[6] * r0_d_t0[6] + n1_s[7] * r0_d_t0[7];
      r0_d_x0[6] = n1_s[8] * r0_d_t0[4] + n1_s[9] * r0_d_t0[5] + n1_s[10] * r0_d_t0[6] + n1_s[11] * r0_d_t0[7];
      r0_d_x0[7] = n1_s[12] * r0_d_t0[4] + n1_s[13] * r0_d_t0[5] + n1_s[14] * r0_d_t0[6] + n1_s[15] * r0_d_t0[7];
      r0_d_x0[8] = n1_s[0] * r0_d_t0[8] + n1_s[1] * r0_d_t0[9] + n1_s[2] * r0_d_t0[10] + n1_s[3] * r0_d_t0[11];
      r0_d_x0[9] = n1_s[4] * r0_d_t0[8] + n1_s[5] * r0_d_t0[9] + n1_s[6] * r0_d_t0[10] + n1_s[7] * r0_d_t0[11];
      r0_d_x0[10] = n1_s[8] * r0_d_t0[8] + n1_s[9] * r0_d_t0[9] + n1_s[10] * r0_d_t0[10] + n1_s[11] * r0_d_t0[11];
      r0_d_x0[11] = n1_s[12] * r0_d_t0[8] + n1_s[13] * r0_d_t0[9] + n1_s[14] * r0_d_t0[10] + n1_s[15] * r0_d_t0[11];
      r0_d_x0[12] = n1_s[0] * r0_d_t0[12] + n1_s[1] * r0_d_t0[13] + n1_s[2] * r0_d_t0[14] + n1_s[3] * r0_d_t0[15];
      r0_d_x0[13] = n1_s[4] * r0_d_t0[12] + n1_s[5] * r0_d_t0[13] + n1_s[6] * r0_d_t0[14] + n1_s[7] * r0_d_t0[15];
      r0_d_x0[14] = n1_s[8] * r0_d_t0[12] + n1_s[9] * r0_d_t0[13] + n1_s[10] * r0_d_t0[14] + n1_s[11] * r0_d_t0[15];
      r0_d_x0[15] = n1_s[12] * r0_d_t0[12] + n1_s[13] * r0_d_t0[13] + n1_s[14] * r0_d_t0[14] + n1_s[15] * r0_d_t0[15];
      {
        const entry sum0_0 = r0_d_x0[0], sum1_0 = r0_d_x0[1], sum2_0 = r0_d_x0[2], sum3_0 = r0_d_x0[3], sum4_0 = r0_d_x0[4], sum5_0 = r0_d_x0[5], sum6_0 = r0_d_x0[6], sum7_0 = r0_d_x0[7], sum8_0 = r0_d_x0[8], sum9_0 = r0_d_x0[9], sum10_0 = r0_d_x0[10], sum11_0 = r0_d_x0[11], sum12_0 = r0_d_x0[12], sum13_0 = r0_d_x0[13], sum14_0 = r0_d_x0[14], sum15_0 = r0_d_x0[15];
        x0_s[sample * 33 + i1] = sum0_0;
        x0_s[2 + sample * 33 + i1] = sum1_0;
        x0_s[4 + sample * 33 + i1] = sum2_0;
        x0_s[6 + sample * 33 + i1] = sum3_0;
        x0_s[8 + sample * 33 + i1] = sum4_0;
        x0_s[10 + sample * 33 + i1] = sum5_0;
        x0_s[12 + sample * 33 + i1] = sum6_0;
        x0_s[14 + sample * 33 + i1] = sum7_0;
        x0_s[16 + sample * 33 + i1] = sum8_0;
        x0_s[18 + sample * 33 + i1] = sum9_0;
        x0_s[20 + sample * 33 + i1] = sum10_0;
        x0_s[22 + sample * 33 + i1] = sum11_0;
        x0_s[24 + sample * 33 + i1] = sum12_0;
        x0_s[26 + sample * 33 + i1] = sum13_0;
        x0_s[28 + sample * 33 + i1] = sum14_0;
        x0_s[30 + sample * 33 + i1] = sum15_0;
      }
    }
    // d_x0 leaves
    __syncthreads();
    { const int p = threadIdx.x;
      const int sample = p / 8; const int i1 = p % 8;
      const bool present = first + sample < batch;
      { together<4> run;
        run.v[0] = narrow(x0_s[sample * 33 + i1 * 4]);
        run.v[1] = narrow(x0_s[1 + sample * 33 + i1 * 4]);
        run.v[2] = narrow(x0_s[2 + sample * 33 + i1 * 4]);
        run.v[3] = narrow(x0_s[3 + sample * 33 + i1 * 4]);
        if (present) store(&out_d_x0[sample * 32 + i1 * 4], run); }
    }
  }
  __syncthreads();
  for (int p = threadIdx.x; p < 16; p += 128) {
    entry v = d_n2_p[p];
    for (int w = 1; w < 4; w++) v += d_n2_p[w * 16 + p];
    row[0 + p] = v;
  }
  if (const int p = (int)threadIdx.x - 16; 0 <= p && p < 16) {
    entry v = d_n3_p[p];
    for (int w = 1; w < 4; w++) v += d_n3_p[w * 16 + p];
    row[16 + p] = v;
  }
  if (const int p = (int)threadIdx.x - 32; 0 <= p && p < 16) {
    entry v = d_n0_p[p];
    for (int w = 1; w < 4; w++) v += d_n0_p[w * 16 + p];
    row[32 + p] = v;
  }
  if (const int p = (int)threadIdx.x - 48; 0 <= p && p < 16) {
    entry v = d_n1_p[p];
    for (int w = 1; w < 4; w++) v += d_n1_p[w * 16 + p];
    row[48 + p] = v;
  }
}

// d_n2 summed up; d_n3 summed up; d_n0 summed up; d_n1 summed up
extern "C" __global__ void __launch_bounds__(512, 1)
backward_after0(const stored* __restrict__ all_g, const stored* __restrict__ all_x0, const stored* __restrict__ n0, const stored* __restrict__ n1, const stored* __restrict__ n2, const stored* __restrict__ n3, stored* __restrict__ all_out_d_x0, stored* __restrict__ out_d_n0, stored* __restrict__ out_d_n1, stored* __restrict__ out_d_n2, stored* __restrict__ out_d_n3, entry* __restrict__ workspace, long long batch, int blocks) {
  __shared__ entry rows[512];
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int groups = 1, group = blockIdx.x;
  const int slices = 16, slice = warp / groups;
  long long place = -1;
  int to = 0;
  stored* outside = nullptr;
  entry* inside = nullptr;
  if (group < 2) {
    if (group < 1) {
      const int p = group * 32 + lane;
      if (p < 16) {
        const int i0 = p;
        place = i0, to = i0, outside = out_d_n2;
      }
    } else {
      const int p = (group - 1) * 32 + lane;
      if (p < 16) {
        const int i0 = p;
        place = 16 + i0, to = i0, outside = out_d_n3;
      }
    }
  } else {
    if (group < 3) {
      const int p = (group - 2) * 32 + lane;
      if (p < 16) {
        const int i0 = p;
        place = 32 + i0, to = i0, outside = out_d_n0;
      }
    } else {
      const int p = (group - 3) * 32 + lane;
      if (p < 16) {
        const int i0 = p;
        place = 48 + i0, to = i0, outside = out_d_n1;
      }
    }
  }
  entry v = entry{};
  if (place >= 0 && slice < slices)
    v = sum_rows(workspace + place, 64, slice, slices, blocks);
  rows[threadIdx.x] = v;
  __syncthreads();
  if (place >= 0 && slice == 0) {
    for (int k = 1; k < slices; k++) v += rows[k * groups * 32 + threadIdx.x];
    if (outside) outside[to] = narrow(v);
    else inside[to] = v;
  }
}
